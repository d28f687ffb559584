"""Selection, crossover, mutation and annealing: the parts that algorithms are put together from."""
