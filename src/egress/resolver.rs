use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use super::Policy;

/// Name to addresses: the system's resolver, or in tests one that lies.
pub(super) type Lookup = Arc<dyn Fn(String) -> LookupFuture + Send + Sync>;
pub(super) type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Gives the client vetted addresses only, so that what was checked is what is connected to: there is no second lookup
/// whose answer could differ.
pub(super) struct VettingResolver {
    pub(super) policy: Arc<Policy>,
    pub(super) lookup: Lookup,
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.policy);
        let lookup = Arc::clone(&self.lookup);
        Box::pin(async move {
            // The URL was checked before; the name is checked again because it went through another parser since.
            policy.check_host(&Host::Domain(name.as_str()))?;
            let addresses = lookup(name.as_str().to_owned()).await?;
            for address in &addresses {
                policy.check_address(name.as_str(), *address)?;
            }
            // Port 0 stands for the URL's port.
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// The resolver of the operating system.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let addresses: Vec<_> = tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect();
            Ok(addresses)
        })
    })
}
