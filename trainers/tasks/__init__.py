"""What a model can do beside its loss: multiple choice by likelihood."""
