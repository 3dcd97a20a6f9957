//! An untrusted URL as a bounded, hashed byte stream, or a classified error.
//!
//! A [`Download`] hands out bytes as they come and says at its end whether they were the right ones: nothing may be
//! made visible before [`Download::next`] has returned `None`. It goes on by itself after an interruption where the
//! server lets it prove that the rest belongs to the same entity; where it can't be proven, the caller starts over.
//! What is in the bytes is for [`sniff`] and [`Container`] to say: a CDN answers 200 with an error page, and a chunked
//! body cut at a valid end looks whole to HTTP.

mod body_hashes;
mod container;
mod download;
mod entity;
mod error;
mod fetcher;
mod jpeg_huffman;
mod jpeg_scan;
mod media_type;
mod resume;
mod sniff;
mod speed;

pub use container::{Container, ContainerError};
pub use download::{Download, Summary};
pub use entity::ContentRange;
pub use error::{ErrorClass, FetchError};
pub use fetcher::{Config, Fetcher};
pub use jpeg_scan::ends_in_a_whole_picture;
pub use media_type::{MediaKind, MediaType};
pub use resume::ResumePoint;
pub use sniff::{SNIFF_LENGTH, sniff};
