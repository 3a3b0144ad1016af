pub mod attack;
pub mod forks;
pub mod fuzz;
pub mod hog;
pub mod spin;
tests![];
