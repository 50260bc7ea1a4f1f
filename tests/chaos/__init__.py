"""Trials: real jobs while nodes, Redis, the network and the store fail, each ended by one audit."""
