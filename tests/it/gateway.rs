//! The provider's API through the vault.

mod apis;
mod bounds;
mod clients;
mod creates;
mod endpoints;
mod ids;
mod learns;
mod lost;
pub(crate) mod pair;
mod passes;
pub(crate) mod provider;
mod secrets;
mod streams;
mod veiled;
