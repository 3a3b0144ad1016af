pub mod attack;
pub mod busy;
pub mod forks;
pub mod fuzz;
pub mod hog;
pub mod spin;
pub mod storm;
tests![];
