//! The event ids of the CMS that have names, and the types that stand for all ids.

use uuid::{Uuid, uuid};

/// What every type begins with.
const PREFIX: &str = "episerver.";

/// An event id with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the CMS calls it.
    pub name: &'static str,
    /// The id.
    pub event_id: Uuid,
    /// The type of its events.
    pub event_type: &'static str,
}

const fn known(name: &'static str, event_id: Uuid, event_type: &'static str) -> Known {
    Known { name, event_id, event_type }
}

/// Every event id that has a name here.
pub const KNOWN: [Known; 22] = [
    known(
        "CacheEventNotifier",
        uuid!("1ee4c0b5-ca95-4bdb-b0d4-e5d9e91189aa"),
        "episerver.cache-event-notifier",
    ),
    known(
        "RemoteCacheSynchronization RemoveFromCache",
        uuid!("9484e34b-b419-4e59-8fd5-3277668a7fce"),
        "episerver.remote-cache-synchronization.remove-from-cache",
    ),
    known(
        "RuntimeCache BlockedCache",
        uuid!("eaac6db8-c224-4558-8e07-4454a15f8d71"),
        "episerver.runtime-cache.blocked-cache",
    ),
    known(
        "RuntimeCache FlushStoredCache",
        uuid!("69793f9f-c106-4b71-a524-8ed7af051077"),
        "episerver.runtime-cache.flush-stored-cache",
    ),
    known(
        "ObjectStoreCache",
        uuid!("4e755664-8fd9-4906-88ca-476842076f98"),
        "episerver.object-store-cache",
    ),
    known(
        "PermanentLinkMapStore Change",
        uuid!("c1b94788-2410-4da1-af51-4927abe5da94"),
        "episerver.permanent-link-map-store.change",
    ),
    known(
        "PermanentLinkMapStore Remove",
        uuid!("414cda81-8720-41f1-bad2-7d6155f419dc"),
        "episerver.permanent-link-map-store.remove",
    ),
    known(
        "VirtualRole Register",
        uuid!("ff174e9c-e3c4-4072-9e1f-7eaf59c5f54f"),
        "episerver.virtual-role.register",
    ),
    known(
        "VirtualRole UnRegister",
        uuid!("546bf805-e87a-46d7-95d1-423ed87662bd"),
        "episerver.virtual-role.unregister",
    ),
    known(
        "VirtualRole Clear",
        uuid!("15fc0951-4510-49ae-9fa3-6cd4762d4101"),
        "episerver.virtual-role.clear",
    ),
    known(
        "VisitorGroup Saved",
        uuid!("f67ab721-faa5-4e37-b894-75aaffa7665d"),
        "episerver.visitor-group.saved",
    ),
    known(
        "VisitorGroup Deleted",
        uuid!("719a93e5-727e-441f-8167-70cca8639803"),
        "episerver.visitor-group.deleted",
    ),
    known(
        "ContentLanguageSettings ClearSettings",
        uuid!("d464d910-68ef-402a-98c6-72a2c95dcdba"),
        "episerver.content-language-settings.clear-settings",
    ),
    known(
        "ContentLanguageSettings ClearTreeMap",
        uuid!("0ccfcc21-2e73-4901-a559-a4484d7bd472"),
        "episerver.content-language-settings.clear-tree-map",
    ),
    known("Workflow", uuid!("c6fb4f08-069c-4ee6-8588-4d5cc806b654"), "episerver.workflow"),
    known(
        "ChangeLog Start",
        uuid!("b6f0e39a-93ef-4dee-a728-a49dac5501fa"),
        "episerver.change-log.start",
    ),
    known(
        "ChangeLog Stop",
        uuid!("a416a5af-6469-48f7-ad9e-c358fe506916"),
        "episerver.change-log.stop",
    ),
    known(
        "ChangeLog StateChange",
        uuid!("55a261f2-9b2a-47dc-87b7-29c4eab895eb"),
        "episerver.change-log.state-change",
    ),
    known("ServerState", uuid!("51da5053-6af8-4a10-9bd4-8417e48f38bd"), "episerver.server-state"),
    known(
        "ScheduledJob Stop",
        uuid!("184468e9-9f0d-4460-aecd-3c08f652c73c"),
        "episerver.scheduled-job.stop",
    ),
    known(
        "Commerce MetaDataUpdated",
        uuid!("ccdf4f50-8216-4919-b8c1-21d9f1932baf"),
        "episerver.commerce.meta-data-updated",
    ),
    known(
        "Commerce ProductUpdated",
        uuid!("8b448bc6-f7e1-4833-bdc7-ca338b77adfa"),
        "episerver.commerce.product-updated",
    ),
];

/// The type of an event id: its name, or the id itself.
#[must_use]
pub fn type_of(event_id: Uuid) -> String {
    let known = KNOWN.iter().find(|known| known.event_id == event_id);
    known.map_or_else(|| format!("{PREFIX}{event_id}"), |known| known.event_type.to_owned())
}

/// The event id of a type; `None`: no event of the CMS has this type.
#[must_use]
pub fn event_id(event_type: &str) -> Option<Uuid> {
    let known = KNOWN.iter().find(|known| known.event_type == event_type);
    known.map(|known| known.event_id).or_else(|| uuid(event_type.strip_prefix(PREFIX)?))
}

/// An id in the one form that is written here: lower case, with hyphens.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|id| id.to_string() == text)
}
