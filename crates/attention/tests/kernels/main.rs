//! The kernels against a plain reference in `f64`.

mod blocked;
mod heads;
mod hostile;
mod online;
mod reference;
