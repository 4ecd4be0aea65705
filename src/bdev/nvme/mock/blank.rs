//! A mock controller for figures.
