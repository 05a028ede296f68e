//! Everything at random, from a seed.
