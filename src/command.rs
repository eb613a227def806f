//! What is done instead of serving.

mod migrate;
mod token;

pub(super) use self::{migrate::migrate, token::token};
