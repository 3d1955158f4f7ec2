"""Functions of an algorithm, whichever it is: train, sweep, evaluate, save, run."""
