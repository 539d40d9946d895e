"""The program that trains the peers, in an environment of their own: no JAX, none of our code."""
