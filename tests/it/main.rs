//! Everything that the service promises, seen from outside: over a socket, against a real database.

mod contract;
mod crash;
mod fuzz;
mod group;
mod harness;
mod house;
mod input;
mod member;
mod model;
mod outage;
mod pages;
mod process;
mod races;
mod role;
mod spans;
mod statements;
mod text;
// mod tour;
mod user;
