"""What every registered objective must hold, whichever it is."""

import difflib
import types

import numpy as np
import pytest
import torch

from crossover.trainers import objectives
from crossover.trainers.config import ModelConfig, RegularizationConfig, TrialConfig, config_from_dotted
from crossover.trainers.data import Batch, Windows
from crossover.trainers.data.vocabulary import BYTES
from crossover.trainers.errors import ConfigError
from crossover.trainers.model.shapes import shape_of
from crossover.trainers.model.transformer import Transformer
from crossover.trainers.objectives import Objective, base

LENGTH = 12


def config_of(name: str, **settings: object) -> TrialConfig:
    base = {"data.corpus": "none", "data.unique_tokens": 1000, "model.num_layers": 1, "model.width": 32}
    return config_from_dotted({**base, "objective.name": name, "schedule.epochs": 1, **settings})


def make_model(dropout: float = 0.0) -> Transformer:
    torch.manual_seed(0)
    shape = shape_of(ModelConfig(num_layers=1, width=32, init_std=0.3), BYTES.num_input_tokens, BYTES.num_output_tokens)
    return Transformer(shape, RegularizationConfig(dropout=dropout))


def make_windows(num: int = 7) -> Windows:
    tokens = torch.randint(0, BYTES.num_output_tokens, (num, LENGTH), generator=torch.Generator().manual_seed(5))
    num_tokens = np.array([LENGTH, *range(1, num)], dtype=np.int64)
    valid = torch.arange(LENGTH) < torch.from_numpy(num_tokens)[:, None]
    return Windows(
        tokens.masked_fill(~valid, BYTES.separator), valid, num_tokens, num_tokens, np.arange(num, dtype=np.int64), ""
    )


def make_batch(num: int = 6) -> Batch:
    windows = make_windows(num)
    return Batch(windows.tokens_WL, windows.valid_WL, int(windows.num_tokens_W.sum()))


@pytest.fixture(params=objectives.names())
def objective(request: pytest.FixtureRequest) -> Objective:
    return objectives.build(config_of(request.param), BYTES)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestObjectiveContract:
    def test_it_is_found_by_its_name(self, objective: Objective) -> None:
        assert objectives.get(objective.name) is type(objective)

    def test_loss_repeats_by_seed(self, objective: Objective) -> None:
        model, batch = make_model(), make_batch()
        losses = [objective.training_loss(model, batch, generator(3)).nats for _ in range(2)]
        assert torch.equal(*losses)
        assert losses[0].dtype == torch.float32
        assert losses[0].shape == ()

    def test_loss_and_gradient_do_not_depend_on_the_world_size(self, objective: Objective) -> None:
        model, batch = make_model(), make_batch()
        whole = objective.training_loss(model, batch, generator(3))
        whole.nats.backward()
        expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        parts = [
            objective.training_loss(model, batch, generator(3), rows)
            for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
        ]
        for part in parts:
            part.nats.backward()
        assert sum(part.num_tokens for part in parts) == whole.num_tokens == batch.num_tokens
        torch.testing.assert_close(sum(part.nats for part in parts), whole.nats)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)

    def test_loss_leaves_the_batch_as_it_was(self, objective: Objective) -> None:
        batch = make_batch()
        before = batch.tokens_BL.clone(), batch.valid_BL.clone()
        objective.training_loss(make_model(), batch, generator())
        assert torch.equal(batch.tokens_BL, before[0])
        assert torch.equal(batch.valid_BL, before[1])

    def test_a_few_steps_learn(self, objective: Objective) -> None:
        model, windows = make_model(), make_windows()
        batch = make_batch(7)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        before = objective.window_nats(model, windows, num_masks=16, seed=0).nats_WM.mean()
        for step in range(60):
            loss = objective.training_loss(model, batch, generator(step))
            optimizer.zero_grad()
            (loss.nats / loss.num_tokens).backward()
            optimizer.step()
        assert objective.window_nats(model, windows, num_masks=16, seed=0).nats_WM.mean() < 0.7 * before

    def test_windows_are_scored_alike_by_seed_and_batch_size(self, objective: Objective) -> None:
        model, windows = make_model(), make_windows()
        first = objective.window_nats(model, windows, num_masks=2, seed=1, batch_size=64)
        again = objective.window_nats(model, windows, num_masks=2, seed=1, batch_size=64)
        small = objective.window_nats(model, windows, num_masks=2, seed=1, batch_size=3)
        np.testing.assert_array_equal(first.nats_WM, again.nats_WM)
        np.testing.assert_allclose(first.nats_WM, small.nats_WM, rtol=1e-5)
        assert first.nats_WM.shape == (7, 2 if objective.is_bound else 1)
        assert first.nats_WM.dtype == np.float64
        assert (first.num_masked_WM is not None) == objective.is_bound

    def test_what_is_given_is_read_and_not_scored(self, objective: Objective) -> None:
        model, windows = make_model(), make_windows()
        given = windows.num_tokens_W - 1
        last = objective.window_nats(model, windows, num_masks=3, seed=1, given_W=given).nats_WM
        np.testing.assert_allclose(last, last[:, :1].repeat(last.shape[1], 1), rtol=1e-5)  # one token: one mask
        assert (last < objective.window_nats(model, windows, num_masks=3, seed=1).nats_WM.mean(1)[0]).all()
        changed = make_windows()
        changed.tokens_WL[:, 0] = (changed.tokens_WL[:, 0] + 1) % BYTES.num_output_tokens
        again = objective.window_nats(model, changed, num_masks=3, seed=1, given_W=given).nats_WM
        assert (again[given > 0] != last[given > 0]).all()

    @pytest.mark.parametrize(("world_size", "batch_size"), [(2, 64), (2, 3), (4, 1), (3, 2), (40, 8)])
    def test_workers_score_every_window_once_in_as_many_passes(
        self, objective: Objective, world_size: int, batch_size: int
    ) -> None:
        model, windows = make_model(), make_windows()
        alone = objective.window_nats(model, windows, num_masks=2, seed=1)
        passes: list[int] = []
        parts = []
        for rank in range(world_size):
            shapes: list[torch.Size] = []
            hook = model.norm.register_forward_hook(lambda norm, inputs, h, shapes=shapes: shapes.append(h.shape))
            result = objective.window_nats(
                model, windows, num_masks=2, seed=1, batch_size=batch_size, rank=rank, world_size=world_size
            )
            hook.remove()
            assert max(shape[0] for shape in shapes) <= batch_size
            passes.append(len(shapes))
            parts.append(result.nats_WM)
            np.testing.assert_array_equal(result.num_masked_WM, alone.num_masked_WM)
        assert len(set(passes)) == 1
        assert (sum((part != 0).astype(int) for part in parts) == 1).all()
        np.testing.assert_allclose(sum(parts), alone.nats_WM, rtol=1e-5)

    def test_windows_are_scored_without_dropout_or_gradient_and_the_mode_comes_back(self, objective: Objective) -> None:
        windows, model = make_windows(), make_model(dropout=0.5).train()
        expected = objective.window_nats(make_model(), windows, num_masks=2, seed=0).nats_WM
        np.testing.assert_array_equal(objective.window_nats(model, windows, num_masks=2, seed=0).nats_WM, expected)
        assert model.training
        objective.training_loss(model, make_batch(), generator()).nats.backward()

    def test_a_broken_model_scores_nan_and_is_not_hidden(self, objective: Objective) -> None:
        model = make_model()
        with torch.no_grad():
            model.norm.weight.fill_(torch.nan)
        assert np.isnan(objective.window_nats(model, make_windows(), num_masks=2, seed=0).nats_WM).all()
        assert objective.training_loss(model, make_batch(), generator(1)).nats.isnan()

    def test_head_fractions_are_those_computed(self, objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(base, "_TILE", 1)  # rows that only fill a tile are not counted
        model = make_model()
        rows: list[int] = []
        for name in ("nats", "nats_sum"):
            costs = getattr(model, name)
            monkeypatch.setattr(model, name, lambda h, *rest, costs=costs: (rows.append(len(h)), costs(h, *rest))[1])
        tokens = torch.zeros(8, LENGTH, dtype=torch.int64)
        batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), tokens.numel())
        for seed in range(100):
            objective.training_loss(model, batch, generator(seed))
        assert sum(rows) / (100 * tokens.numel()) == pytest.approx(objective.training_head_fraction, abs=0.02)
        rows.clear()
        windows = Windows(tokens, batch.valid_BL, *(np.full(8, LENGTH) for _ in range(3)), "")
        objective.window_nats(model, windows, num_masks=50, seed=0)
        logits = 8 * LENGTH * objective.evaluation_passes(50) * objective.evaluation_head_fraction(LENGTH)
        assert sum(rows) == pytest.approx(logits, rel=0.01)

    @pytest.mark.gpu
    def test_a_gpu_gives_the_loss_and_the_scores_of_the_processor(self, objective: Objective) -> None:
        batch, windows = make_batch(), make_windows()
        losses, scores = [], []
        for device in ("cpu", "cuda"):
            model = make_model().to(device)
            losses.append(objective.training_loss(model, batch, generator(3)).nats.item())
            scores.append(objective.window_nats(model, windows, num_masks=2, seed=0).nats_WM)
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4)


class TestRegistry:
    def test_both_objectives_are_there(self) -> None:
        assert {"autoregressive", "masked_diffusion"} <= set(objectives.names())

    @pytest.mark.parametrize("name", ["autoregresive", "masked-diffusion", "MASKED_DIFFUSIO", "gpt", ""])
    def test_an_unknown_name_lists_the_known_and_the_near_one(self, name: str) -> None:
        with pytest.raises(ConfigError) as caught:
            objectives.get(name)
        message = str(caught.value)
        assert repr(name) in message
        assert all(known in message for known in objectives.names())
        near = difflib.get_close_matches(name, objectives.names(), n=1)
        assert ("did you mean" in message) == bool(near)

    def test_an_unknown_name_cannot_be_built(self) -> None:
        with pytest.raises(ConfigError, match=r"objective\.name is 'gpt'"):
            objectives.build(config_of("gpt"), BYTES)

    def test_settings_reach_their_objective(self) -> None:
        built = objectives.build(config_of("autoregressive", **{"regularization.input_noise": 0.25}), BYTES)
        assert isinstance(built, objectives.autoregressive.Autoregressive)
        assert built.noise.share == 0.25
        assert (built.begin, built.mask) == (BYTES.begin, BYTES.mask)

    def test_a_new_objective_needs_one_registration(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("crossover.trainers.objectives.base._REGISTRY", {})
        new = types.new_class("New", (objectives.autoregressive.Autoregressive,))
        new.name = "new"  # type: ignore[attr-defined]
        assert objectives.register(new) is new
        assert objectives.names() == ["new"]
        assert isinstance(objectives.build(config_of("new"), BYTES), new)
