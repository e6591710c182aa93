//! What is put where.
