//! Jobs, with the real binary: what they write, what they leave behind, what stops them.

mod crash;
mod delta;
mod delta_input;
mod delta_log;
mod describe;
mod faults;
mod fit_first;
mod incremental;
mod input;
mod support;
mod written;
