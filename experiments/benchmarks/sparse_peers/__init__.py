"""PyTorch's and FBGEMM's tables for large vocabularies, with the rest of the model in PyTorch."""
