//! Trying out whether events arrive.

use super::{Failure, print};
use crate::config::Config;
use crate::notify::send_test;

/// Sends a test event to each endpoint, or to one, and says what came back.
pub(super) async fn test(config: &Config, name: Option<&str>) -> Result<(), Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let notify = config.notify(credentials.notify_keys).map_err(Failure::usage)?;
    let wanted = |endpoint: &&crate::notify::Endpoint| name.is_none_or(|name| endpoint.route.endpoint == name);
    let endpoints: Vec<_> = notify.endpoints.iter().filter(wanted).collect();
    if endpoints.is_empty() {
        let names: Vec<_> = notify.endpoints.iter().map(|endpoint| endpoint.route.endpoint.as_str()).collect();
        return Err(Failure::usage(match name {
            Some(name) if !names.is_empty() => {
                format!("--endpoint: expected one of {}, found {name:?}", names.join(", "))
            }
            _ => config.error("notify.endpoints", "expected at least one endpoint").to_string(),
        }));
    }
    let (count, mut failed) = (endpoints.len(), 0);
    for endpoint in endpoints {
        let name = &endpoint.route.endpoint;
        match send_test(notify.egress.clone(), endpoint).await {
            Ok((id, status @ 200..300)) => print(format!("{name}: {status}, {id} arrived\n"))?,
            Ok((id, status)) => {
                failed += 1;
                print(format!("{name}: {status}, {id} was not taken\n"))?;
            }
            Err(error) => {
                failed += 1;
                print(format!("{name}: {error}\n"))?;
            }
        }
    }
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::runtime(format!("{failed} of {count} endpoints did not take the event")))
    }
}
