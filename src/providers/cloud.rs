//! From a plan in a cloud to a server that is logged in to: the same for every cloud.
//!
//! Invariant: nothing is sent to a new server before it has shown a host key that the cloud's API vouches for.

use std::future::Future;
use std::time::Duration;

use crate::cloud::{Act, Found, KeyHex, Owner, Quote, Server, Thing, Wish};

use super::error::CloudError;

/// What a new server is made with.
#[derive(Clone)]
pub struct Birth {
    /// The cloud-init document. It holds a private host key: never to be shown or logged.
    pub user_data: String,
    /// The public half of that key, for the tag.
    pub host_key: KeyHex,
}

/// Called with what is being waited for.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A cloud, as ship uses it. Reads are repeated when they fail; a call that makes something is not repeated before a
/// look has shown that it has not happened.
pub trait Cloud: Send + Sync {
    /// Finds the owner's server: what commands other than `up` need, in as few calls as possible.
    fn find(&self, owner: &Owner) -> impl Future<Output = Result<Option<Server>, CloudError>> + Send;

    /// Finds everything. Two servers with the owner's tag are an error that names both.
    fn look(&self, wish: &Wish) -> impl Future<Output = Result<Found, CloudError>> + Send;

    /// Looks up what the wished size is, and checks that account, region, size and image can be had.
    /// Called only before a server is made or resized.
    fn quote(&self, wish: &Wish) -> impl Future<Output = Result<Quote, CloudError>> + Send;

    /// Does one act and waits for its end; `found` is kept true to what has been done.
    fn act(
        &self,
        act: &Act,
        wish: &Wish,
        found: &mut Found,
        birth: &Birth,
        progress: Progress<'_>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Records the host key that the server made itself, beside the one it was born with.
    fn add_host_key(
        &self,
        owner: &Owner,
        server: &Server,
        key: &KeyHex,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Forgets the host key that the server was born with.
    fn drop_birth_key(
        &self,
        owner: &Owner,
        server: &Server,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Everything in the account that carries the owner's tag or unique name, whether it is in use or not.
    fn things(&self, owner: &Owner) -> impl Future<Output = Result<Vec<Thing>, CloudError>> + Send;

    /// Removes one thing and waits until it is gone. What is gone already is no error.
    fn remove(
        &self,
        owner: &Owner,
        thing: &Thing,
        progress: Progress<'_>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;
}

/// A zone host, as ship uses it.
pub trait DnsProvider: Send + Sync {
    /// The zones whose name is one of `names`.
    fn zones(
        &self,
        names: &[String],
    ) -> impl Future<Output = Result<Vec<crate::dns::Zone>, CloudError>> + Send;

    /// Every record set at exactly these names, of whatever kind.
    fn records(
        &self,
        zone: &crate::dns::Zone,
        names: &[String],
    ) -> impl Future<Output = Result<Vec<crate::dns::RecordSet>, CloudError>> + Send;

    /// Makes the changes and waits until the API says that all its name servers have them, where it can say so.
    fn apply(
        &self,
        zone: &crate::dns::Zone,
        changes: &[crate::dns::DnsChange],
        progress: Progress<'_>,
    ) -> impl Future<Output = Result<(), CloudError>> + Send;

    /// Makes a zone.
    fn create_zone(&self, name: &str) -> impl Future<Output = Result<crate::dns::Zone, CloudError>> + Send;
}

/// Does what must not happen twice: calls `make` once, and after an unclear end looks with `find` before it dares to
/// call it again. `looks` are the waits before each look: what was made may be missing from the first lists.
pub async fn once<T, Find, Finding, Make, Making>(
    looks: &[Duration],
    mut find: Find,
    mut make: Make,
) -> Result<T, CloudError>
where
    Find: FnMut() -> Finding,
    Finding: Future<Output = Result<Option<T>, CloudError>>,
    Make: FnMut() -> Making,
    Making: Future<Output = Result<T, CloudError>>,
{
    const ATTEMPTS: u32 = 3;
    let mut attempt = 1;
    loop {
        let error = match make().await {
            Err(error) if error.is_unclear() => error,
            clear => return clear,
        };
        for wait in looks {
            tokio::time::sleep(*wait).await;
            match find().await {
                Ok(Some(made)) => return Ok(made),
                Ok(None) => {}
                // Whether it happened is what the user has to know.
                Err(_) => return Err(error),
            }
        }
        if attempt == ATTEMPTS {
            return Err(error);
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn unclear() -> CloudError {
        CloudError::Unclear { cloud: "C", doing: "make it".into(), why: "the line is dead".into() }
    }

    fn refused() -> CloudError {
        CloudError::Impossible { message: "no".into(), hints: Vec::new() }
    }

    /// Has `make` end one way and `find` another; says what came of it, how often each was called.
    async fn tried(
        made: Result<u8, CloudError>,
        found: impl Fn(u32) -> Result<Option<u8>, CloudError>,
    ) -> (Result<u8, CloudError>, u32, u32) {
        let (makes, finds) = (Cell::new(0), Cell::new(0));
        let looks = [Duration::ZERO; 2];
        let find = || {
            finds.set(finds.get() + 1);
            std::future::ready(found(finds.get()))
        };
        let make = || {
            makes.set(makes.get() + 1);
            std::future::ready(made.clone())
        };
        let result = once(&looks, find, make).await;
        (result, makes.get(), finds.get())
    }

    #[tokio::test]
    async fn what_is_clear_is_not_asked_again() {
        assert_eq!(tried(Ok(1), |_| panic!()).await, (Ok(1), 1, 0));
        assert_eq!(tried(Err(refused()), |_| panic!()).await, (Err(refused()), 1, 0));
    }

    #[tokio::test]
    async fn what_has_happened_is_found() {
        assert_eq!(tried(Err(unclear()), |look| Ok((look == 2).then_some(2))).await, (Ok(2), 1, 2));
        assert_eq!(tried(Err(unclear()), |look| Ok((look == 3).then_some(2))).await, (Ok(2), 2, 3));
    }

    #[tokio::test]
    async fn a_doubt_that_stays_is_told() {
        assert_eq!(tried(Err(unclear()), |_| Ok(None)).await, (Err(unclear()), 3, 6));
        assert_eq!(
            tried(Err(unclear()), |_| Err(refused())).await,
            (Err(unclear()), 1, 1),
            "and not the look's fault"
        );
    }
}
