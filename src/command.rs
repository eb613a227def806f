//! What is done instead of serving.

mod config;
mod migrate;
mod token;

pub(super) use self::{config::config, migrate::migrate, token::token};
