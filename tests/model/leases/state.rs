//! What there is at one moment. Times are what has passed or what remains, each by the clock of
//! who counts it.

/// Who has a clock that runs at two thirds of the others' rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slow {
    Nobody,
    /// The machine of the member and of the application beside it.
    Host,
    /// The application alone.
    Application,
}

/// Between origin and member: at most one ping or its echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    Empty,
    /// A hello of the member: no ping goes before it.
    Hello,
    /// A ping that the member sent so long ago.
    Ping {
        age: u8,
    },
    /// The echo of a ping of that age, with the origin's head.
    Echo {
        age: u8,
        head: u8,
    },
}

/// The same between member and application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AppWire {
    Empty,
    /// A ping that the application sent so long ago.
    Ping {
        age: u8,
    },
    /// What may be trusted for as long as this, counted from the sending of the ping.
    Answer {
        left: u8,
    },
}

/// What a member said: stored through here, and where its subscriptions lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Said {
    pub(crate) stored: u8,
    pub(crate) lag: Option<u8>,
}

/// A member's lease towards the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) left: u8,
    /// The head that it began with.
    pub(crate) since: u8,
    /// The last word of an origin that ended in order, and was not said hello to since.
    pub(crate) goodbye: Option<u8>,
}

/// A goodbye on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Goodbye {
    /// The last word.
    pub(crate) head: u8,
    /// The member has said hello since, on another link.
    pub(crate) old: bool,
}

/// A stream, as the member sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stream {
    /// Acknowledged through here.
    pub(crate) through: u8,
    /// What was here when it opened.
    pub(crate) opened_at: u8,
    /// How long it counts though it ended.
    pub(crate) counts: u8,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) slow: Slow,
    /// Of three ticks: at the last one slow clocks stand.
    pub(crate) phase: u8,
    /// The origin: events that it numbered, and through which one a fence said done.
    pub(crate) head: u8,
    pub(crate) fenced: u8,
    /// Since the member's last ping; `None`: none in this start.
    pub(crate) silent: Option<u8>,
    /// What the origin knows of the member.
    pub(crate) known: Said,
    /// It has begun to end, and answers no fence any more.
    pub(crate) ending: bool,
    /// The member has a link. What a link that broke has brought may still be read.
    pub(crate) linked: bool,
    pub(crate) wire: Wire,
    pub(crate) goodbye: Option<Goodbye>,
    /// On its way from the member to the origin.
    pub(crate) report: Option<Said>,
    /// The member: through where it holds the origin's events, its lease, its subscriptions.
    pub(crate) held: u8,
    pub(crate) lease: Option<Lease>,
    /// A goodbye that is kept over a restart of the member, if one is.
    pub(crate) kept: Option<u8>,
    pub(crate) stream: Option<Stream>,
    /// How long a stream that ended counts, by what it had acknowledged: nothing, or one event.
    pub(crate) ended: [u8; 2],
    /// How long whoever had a lease of the former start counts.
    pub(crate) former: u8,
    pub(crate) app_wire: AppWire,
    /// An acknowledgement on its way; 0: none.
    pub(crate) ack: u8,
    /// The application: through where it dropped what it had cached, and how long it trusts the
    /// rest.
    pub(crate) applied: u8,
    pub(crate) trusts: u8,
}

impl State {
    /// All are linked and idle, and nothing was published.
    pub(crate) fn new(slow: Slow) -> Self {
        let nothing = Said { stored: 0, lag: None };
        Self {
            slow,
            phase: 0,
            head: 0,
            fenced: 0,
            silent: None,
            known: nothing,
            ending: false,
            linked: true,
            wire: Wire::Empty,
            goodbye: None,
            report: None,
            held: 0,
            lease: None,
            kept: None,
            stream: Some(Stream { through: 0, opened_at: 0, counts: 0 }),
            ended: [0; 2],
            former: 0,
            app_wire: AppWire::Empty,
            ack: 0,
            applied: 0,
            trusts: 0,
        }
    }

    /// Whether the member holds the origin's events through here.
    pub(crate) fn has(&self, through: u8) -> bool {
        self.held >= through
    }
}
