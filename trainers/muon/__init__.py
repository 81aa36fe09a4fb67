"""Muon, the optimizer of hidden matrices, three ways: whole ones, sharded by rows, and stacks of experts."""

from crossover.trainers.muon.sharded import ShardedMuon
from crossover.trainers.muon.stacked import StackedMuon
from crossover.trainers.muon.whole import WholeMuon

__all__ = ["ShardedMuon", "StackedMuon", "WholeMuon"]
