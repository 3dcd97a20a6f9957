//! The provider's API through the vault.

mod creates;
mod learns;
mod passes;
pub(crate) mod provider;
mod streams;
