//! What a subscription hears, judged for whole blocks first.

use evermesh_proto::v1;

use crate::block::{Block, Glance};
use crate::limits::{EXCLUDED_SOURCES_MAX, FILTER_NAMES_MAX, SOURCE_BYTES_MAX, TYPE_BYTES_MAX};
use crate::validate::{Refusal, check_site};

/// How much of a block a subscription hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of it: its body can be copied.
    All,
    /// Nothing of it.
    None,
    /// Each entry must be looked at.
    Some,
}

/// Sites, types and excluded sources of one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `None`: every site.
    sites: Option<Vec<String>>,
    types: Vec<String>,
    exclude_sources: Vec<String>,
}

impl Filter {
    /// Checks what a subscription asked for. `sites: None` hears every site.
    ///
    /// # Errors
    /// If a name cannot be one, or there are too many.
    pub fn new(
        sites: Option<Vec<String>>,
        types: Vec<String>,
        exclude_sources: Vec<String>,
    ) -> Result<Self, Refusal> {
        let named = sites.as_deref().unwrap_or_default();
        named.iter().try_for_each(|site| check_site(site))?;
        few("sites", named.len(), FILTER_NAMES_MAX)?;
        few("types", types.len(), FILTER_NAMES_MAX)?;
        few("exclude_sources", exclude_sources.len(), EXCLUDED_SOURCES_MAX)?;
        short("types", &types, TYPE_BYTES_MAX)?;
        short("exclude_sources", &exclude_sources, SOURCE_BYTES_MAX)?;
        Ok(Self { sites, types, exclude_sources })
    }

    /// How much of a block is heard, by its index alone.
    #[must_use]
    pub fn coverage(&self, block: &Block) -> Coverage {
        let hears = |kind: &v1::BlockKind| self.hears_kind(&kind.site, &kind.r#type, &kind.source);
        let mut kinds = block.kinds().iter();
        let Some(first) = kinds.next() else {
            return Coverage::Some;
        };
        let heard = hears(first);
        if kinds.any(|kind| hears(kind) != heard) {
            return Coverage::Some;
        }
        if heard { Coverage::All } else { Coverage::None }
    }

    /// Whether one event is heard.
    #[must_use]
    pub fn hears(&self, event: &Glance<'_>) -> bool {
        self.hears_kind(event.site, event.r#type, event.source)
    }

    /// Whether anything of a site is heard.
    #[must_use]
    pub fn hears_site(&self, site: &str) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.iter().any(|s| s == site))
    }

    /// The sites by name; empty: every site.
    #[must_use]
    pub fn sites(&self) -> &[String] {
        self.sites.as_deref().unwrap_or_default()
    }

    fn hears_kind(&self, site: &str, r#type: &str, source: &str) -> bool {
        self.hears_site(site)
            && (self.types.is_empty() || self.types.iter().any(|t| t == r#type))
            && !self.exclude_sources.iter().any(|s| s == source)
    }
}

fn few(field: &'static str, count: usize, max: usize) -> Result<(), Refusal> {
    if count > max {
        let message = format!("names {count}, the limit is {max}; leave it empty to hear all");
        return Err(Refusal { field, reason: "FILTER_TOO_LARGE", message });
    }
    Ok(())
}

fn short(field: &'static str, names: &[String], max: usize) -> Result<(), Refusal> {
    if let Some(name) = names.iter().find(|name| name.is_empty() || name.len() > max) {
        let message = format!("one name has {} bytes; each has 1 to {max}", name.len());
        return Err(Refusal { field, reason: "FILTER_INVALID", message });
    }
    Ok(())
}
