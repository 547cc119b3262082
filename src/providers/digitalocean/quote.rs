//! What a size costs, and whether the account can have what the plan wants, before anything is made.

use crate::cloud::{self, Found, Quote, Wish};
use crate::nearest::nearest;
use crate::providers::error::CloudError;

use super::DigitalOcean;
use super::api::{Account, Droplet, Image, Size, Total};
use super::client::{Call, limit_hint};

/// What there is to judge by.
struct Market {
    account: Account,
    sizes: Vec<Size>,
    image: Option<Image>,
    /// How many droplets the account has.
    droplets: u64,
    /// The owner's droplet.
    droplet: Option<Droplet>,
}

impl DigitalOcean {
    pub(super) async fn quote_for(&self, wish: &Wish) -> Result<Quote, CloudError> {
        let account = Call::get(&["account"], "look at the account");
        let sizes = Call::get(&["sizes"], "list sizes");
        let image = super::server::image(&wish.image);
        let image = image.as_str().map_or_else(|| image.to_string(), str::to_owned);
        let image = Call::get(&["images", &image], format!("look at the image {}", wish.image));
        let count = Call::get(&["droplets"], "count droplets").query("per_page", "1");
        let (account, sizes, image, total, droplet) = tokio::try_join!(
            self.client.call::<Account>(&account, "account"),
            self.client.list::<Size>(&sizes, "sizes"),
            self.client.find::<Image>(&image, "image"),
            self.client.call::<Total>(&count, "meta"),
            self.droplet_of(&wish.owner),
        )?;
        judge(wish, &Market { account, sizes, image, droplets: total.total, droplet })
    }
}

fn judge(wish: &Wish, market: &Market) -> Result<Quote, CloudError> {
    let size = market.sizes.iter().find(|size| size.slug == wish.size);
    let size = size.ok_or_else(|| no_size(&wish.size, &market.sizes))?;
    standing(&market.account)?;
    let server = market.droplet.as_ref().map(|droplet| droplet.server(&wish.owner, &[]));
    let found = Found { server, ..Found::default() };
    let stays =
        market.droplet.as_ref().filter(|_| cloud::plan(wish, &found, None, false).replaces.is_empty());
    let obstacle = stays.filter(|droplet| size.disk < droplet.disk).map(|droplet| {
        format!(
            "{} has a disk of {} GiB, and the droplet's of {} GiB can't shrink",
            size.slug, size.disk, droplet.disk
        )
    });
    match stays {
        // It stays where it is and with what it has.
        Some(droplet) if obstacle.is_none() => at_region(size, &droplet.region.slug, &market.sizes)?,
        Some(_) | None => {
            let region = wish.region.as_deref().unwrap_or_default();
            at_region(size, region, &market.sizes)?;
            image(wish, region, size, market.image.as_ref())?;
            if let Some(limit) = market.account.droplet_limit
                && market.droplet.is_none()
                && market.droplets >= limit
            {
                return Err(CloudError::Impossible {
                    message: format!(
                        "the DigitalOcean account has {} droplets and may have {limit}",
                        market.droplets
                    ),
                    hints: vec![limit_hint("droplet")],
                });
            }
        }
    }
    Ok(Quote {
        memory_mb: size.memory,
        cores: size.vcpus,
        monthly: Some(format!("{:.2} USD", size.price_monthly)),
        obstacle,
    })
}

fn standing(account: &Account) -> Result<(), CloudError> {
    if account.status != "locked" {
        // With a warning everything still works; DigitalOcean itself writes to the account's owner.
        return Ok(());
    }
    let why = Some(account.status_message.as_str()).filter(|why| !why.trim().is_empty());
    Err(CloudError::Impossible {
        message: format!("the DigitalOcean account is locked: {}", why.unwrap_or("no reason is given")),
        hints: vec!["see https://cloud.digitalocean.com, or write to its support".into()],
    })
}

fn no_size(wished: &str, sizes: &[Size]) -> CloudError {
    let near = nearest(wished, sizes.iter().map(|size| size.slug.as_str()));
    let mut hints: Vec<String> = near.map(|near| format!("did you mean `{near}`?")).into_iter().collect();
    hints.push("`doctl compute size list` lists them".into());
    CloudError::Impossible { message: format!("`server.size`: DigitalOcean has no size `{wished}`"), hints }
}

/// Whether a size can be had in a region now.
fn at_region(size: &Size, region: &str, sizes: &[Size]) -> Result<(), CloudError> {
    if size.available && size.regions.iter().any(|has| has == region) {
        return Ok(());
    }
    let mut regions: Vec<&str> = sizes.iter().flat_map(|size| &size.regions).map(String::as_str).collect();
    regions.sort_unstable();
    regions.dedup();
    if !regions.contains(&region) {
        let near = nearest(region, regions.iter().copied());
        let mut hints: Vec<String> = near.map(|near| format!("did you mean `{near}`?")).into_iter().collect();
        hints.push(format!("there are {}", regions.join(", ")));
        return Err(CloudError::Impossible {
            message: format!(
                "`server.region`: DigitalOcean has no region `{region}` that takes new droplets"
            ),
            hints,
        });
    }
    let mut hints = Vec::new();
    if size.available && !size.regions.is_empty() {
        hints.push(format!("{} is to be had in {}", size.slug, size.regions.join(", ")));
    }
    let similar = similar(size, region, sizes);
    if !similar.is_empty() {
        hints.push(format!("{region} has {}", similar.join(", ")));
    }
    Err(CloudError::Impossible {
        message: format!("`server.size`: {} is not to be had in {region} now", size.slug),
        hints,
    })
}

/// The sizes of a region that are nearest to another: in memory first, then in processors and price.
fn similar(to: &Size, region: &str, sizes: &[Size]) -> Vec<String> {
    let mut others: Vec<&Size> = sizes
        .iter()
        .filter(|size| size.available && size.slug != to.slug && size.regions.iter().any(|has| has == region))
        .collect();
    let distance = |size: &Size| {
        let price = (size.price_monthly - to.price_monthly).abs();
        (size.memory.abs_diff(to.memory), size.vcpus.abs_diff(to.vcpus), price)
    };
    others.sort_by(|one, other| {
        let ((memory, cores, price), (memory2, cores2, price2)) = (distance(one), distance(other));
        (memory, cores).cmp(&(memory2, cores2)).then(price.total_cmp(&price2))
    });
    let show = |size: &&Size| format!("{} ({:.2} USD a month)", size.slug, size.price_monthly);
    others.iter().take(3).map(show).collect()
}

fn image(wish: &Wish, region: &str, size: &Size, image: Option<&Image>) -> Result<(), CloudError> {
    let bad = |why: String| CloudError::Impossible {
        message: format!("`server.image`: {} {why}", wish.image),
        hints: vec!["such as debian-12, debian-13, ubuntu-22.04, ubuntu-24.04".into()],
    };
    let image = image.ok_or_else(|| bad("is no image that this account has at DigitalOcean".into()))?;
    if image.status == "retired" || image.status == "deleted" {
        return Err(bad(format!("is {}: no new droplets are made from it", image.status)));
    }
    if !image.regions.is_empty() && !image.regions.iter().any(|has| has == region) {
        return Err(bad(format!("is not in {region}, only in {}", image.regions.join(", "))));
    }
    if image.min_disk_size > size.disk {
        return Err(bad(format!(
            "needs a disk of {} GiB; {} has {} GiB",
            image.min_disk_size, size.slug, size.disk
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
