"""The exercises, one module per chapter, named chNN_<lesson>; each holds a tuple EXERCISES."""
