//! The course of a drill: subscriptions are opened, events flow while faults strike, everything is
//! healed, what is on its way arrives, and the verdict is spoken.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evermesh_event::verdict::Verdict;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::book::Book;
use super::draw::Draw;
use super::fences::Fences;
use super::hear::Hearing;
use super::nodes::Nodes;
use super::pace::Pace;
use super::plan::{Counts, plan};
use super::probe::Prober;
use super::publish::Publishing;
use super::report::Report;
use super::seat::{Kind, Seat};
use super::strike::{Done, Striking};
use super::{Plant, Wanted};
use crate::Failure;
use crate::output::Output;

/// A drill is long enough for each fault to strike among events: a fault takes about this time.
const FAULT_TAKES: Duration = Duration::from_secs(1);
/// And it is at least this long.
const SPAN_MIN: Duration = Duration::from_secs(5);
/// And so slow that two cores keep up with events and checker.
const EVENTS_PER_SECOND: usize = 5_000;
/// The first fault comes after this: durable names are stored by then.
const CALM: Duration = Duration::from_millis(1_500);
/// After healing, without anything more arriving for so long, what lacks is lost.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);
/// The same where a loss is planted.
const QUIET: Duration = Duration::from_secs(5);
/// How often is asked for what nothing announces.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often progress is said.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Everything that takes part.
#[derive(Debug)]
pub(super) struct Course {
    nodes: Arc<Nodes>,
    wanted: Wanted,
    output: Output,
    seats: Vec<Arc<Seat>>,
    book: Arc<Book>,
    fences: Arc<Fences>,
    probers: Vec<Prober>,
    numbers: Arc<AtomicU64>,
    began: Instant,
}

impl Course {
    /// Nothing runs yet. `run` differs from every other drill's.
    pub(super) fn new(
        nodes: Arc<Nodes>,
        wanted: Wanted,
        run: &str,
        output: Output,
    ) -> Result<Self, Failure> {
        let mut seats = Vec::new();
        for node in 0..nodes.count() {
            for kind in Kind::ALL {
                // One subscription is enough to be wrong.
                let plant = wanted.plant.filter(|_| node == 1 && kind == Kind::Live);
                seats.push(Arc::new(Seat::new(node, &nodes.name(node), kind, plant)));
            }
        }
        let (book, fences) = (Arc::new(Book::default()), Arc::new(Fences::new(seats.clone())));
        let numbers = Arc::new(AtomicU64::new(1));
        let prober = |node| {
            Ok::<_, Failure>(Prober {
                run: run.into(),
                node,
                name: nodes.name(node),
                client: nodes.client(node)?,
                book: Arc::clone(&book),
                fences: Arc::clone(&fences),
                numbers: Arc::clone(&numbers),
                stored: watch::Sender::default(),
                skips_fences: wanted.plant == Some(Plant::SkipFence),
            })
        };
        let probers = (0..nodes.count()).map(prober).collect::<Result<_, _>>()?;
        let began = Instant::now();
        Ok(Self { nodes, wanted, output, seats, book, fences, probers, numbers, began })
    }

    /// From the first subscription to the verdict.
    pub(super) async fn run(&self) -> Result<Report, Failure> {
        let draw = Draw::new(self.wanted.seed);
        let mut hearing = self.subscribe(&draw).await?;
        let mut probing = JoinSet::new();
        let work = async {
            for prober in &self.probers {
                probing.spawn(prober.clone().run());
            }
            self.strike_and_publish(draw.clone()).await?;
            self.output.note(&self.line("all is healed; waiting for the last event to arrive"))?;
            probing.shutdown().await;
            let stuck = self.last_fences().await?;
            Ok::<_, Failure>((stuck, self.arrive().await))
        };
        let (stuck, verdicts) = tokio::select! {
            done = work => done?,
            Some(ended) = hearing.join_next() => return Err(ended_by_itself(ended)),
            fallen = self.watch() => return Err(fallen),
        };
        Ok(self.report(stuck, verdicts))
    }

    /// Opens every subscription; each is heard from now on.
    async fn subscribe(
        &self,
        draw: &Draw,
    ) -> Result<JoinSet<Result<Infallible, Failure>>, Failure> {
        let mut hearing = JoinSet::new();
        for (n, seat) in self.seats.iter().enumerate() {
            let Some(prober) = self.probers.get(seat.node) else { continue };
            let opened = Hearing::open(
                Arc::clone(seat),
                self.nodes.client(seat.node)?,
                prober.run.to_string(),
                draw.apart(n + 1),
                prober.stored.subscribe(),
            );
            hearing.spawn(opened.await?.run());
        }
        Ok(hearing)
    }

    async fn strike_and_publish(&self, mut draw: Draw) -> Result<(), Failure> {
        let (targets, wanted) = (self.nodes.targets(), self.wanted.counts);
        let counts = wanted.of(&targets);
        if counts != wanted {
            self.output.note("  faults without a command are left out")?;
        }
        let span = span(counts, self.wanted.events);
        let mut faults = plan(&mut draw, &targets, counts, span);
        faults.iter_mut().for_each(|fault| fault.at += CALM);
        let pace = Arc::new(Pace::new(span + CALM));
        let mut publishing = self.publishers(&draw, &pace)?;
        let done = Arc::clone(&self.wanted.done);
        let striking = Striking::new(Arc::clone(&self.nodes), done, self.output);
        let strikes = async {
            striking.run(faults).await?;
            pace.faults_are_over();
            Ok(())
        };
        let published = async {
            while let Some(ended) = publishing.join_next().await {
                ended.map_err(|error| Failure::new(70, error.to_string()))??;
            }
            Ok::<_, Failure>(())
        };
        tokio::try_join!(strikes, published).map(|_| ())
    }

    fn publishers(
        &self,
        draw: &Draw,
        pace: &Arc<Pace>,
    ) -> Result<JoinSet<Result<(), Failure>>, Failure> {
        let (count, mut publishing) = (self.nodes.count(), JoinSet::new());
        for prober in &self.probers {
            let more = usize::from(prober.node < self.wanted.events % count);
            let one = Publishing {
                run: Arc::clone(&prober.run),
                node: prober.node,
                name: prober.name.clone(),
                client: self.nodes.client(prober.node)?,
                book: Arc::clone(&self.book),
                pace: Arc::clone(pace),
                draw: draw.apart(1_000 + prober.node),
                events: self.wanted.events / count + more,
            };
            publishing.spawn(one.run());
        }
        Ok(publishing)
    }

    /// At how many nodes no fence is done any more.
    async fn last_fences(&self) -> Result<u64, Failure> {
        let mut last = JoinSet::new();
        for prober in self.probers.clone() {
            last.spawn(async move { prober.last().await });
        }
        let mut stuck = 0;
        while let Some(done) = last.join_next().await {
            let done = done.map_err(|error| Failure::new(70, error.to_string()))?;
            stuck += u64::from(!done);
        }
        Ok(stuck)
    }

    /// Returns when everybody heard everything, or when nothing more comes: the verdict over each
    /// subscription, in their order.
    async fn arrive(&self) -> Vec<Verdict> {
        let patience = if self.wanted.plant.is_some() { QUIET } else { ARRIVES_WITHIN };
        let expected = [false, true].map(|both| self.book.read(both, |book| book.assured()));
        let (mut deadline, mut before) = (Instant::now() + patience, 0);
        let mut verdicts: Vec<Option<Verdict>> = vec![None; self.seats.len()];
        while Instant::now() < deadline {
            let (mut now, mut complete) = (0, true);
            for (seat, verdict) in self.seats.iter().zip(&mut verdicts) {
                let heard = seat.heard().history.events();
                let wanted = expected.get(usize::from(seat.kind.both_sites())).copied();
                // Enough events are not all of them where some were never assured; the verdict,
                // which looks at each, is not asked for before.
                if verdict.is_none() && Some(heard) >= wanted {
                    *verdict = Some(self.verdict(seat)).filter(|verdict| verdict.lost == 0);
                }
                now += heard;
                complete &= verdict.is_some();
            }
            if complete {
                break;
            }
            if now != before {
                (before, deadline) = (now, Instant::now() + patience);
            }
            sleep(ASK_EVERY).await;
        }
        let each = self.seats.iter().zip(verdicts);
        each.map(|(seat, verdict)| verdict.unwrap_or_else(|| self.verdict(seat))).collect()
    }

    fn verdict(&self, seat: &Seat) -> Verdict {
        let heard = seat.heard();
        self.book.read(seat.kind.both_sites(), |book| Verdict::of(book, &heard.history))
    }

    fn report(&self, fences_stuck: u64, verdicts: Vec<Verdict>) -> Report {
        let (mut verdict, mut wrong) = (Verdict::default(), Vec::new());
        for (seat, one) in self.seats.iter().zip(verdicts) {
            if !one.is_clean() {
                wrong.push((seat.label.clone(), one.clone()));
            }
            verdict.add(one);
        }
        let Done { kills, pauses, partitions } = &*self.wanted.done;
        Report {
            nodes: self.nodes.count(),
            subscriptions: self.seats.len(),
            seed: self.wanted.seed,
            published: self.book.assured(),
            probes: self.numbers.load(Ordering::Relaxed) - 1,
            kills: kills.load(Ordering::Relaxed),
            pauses: pauses.load(Ordering::Relaxed),
            partitions: partitions.load(Ordering::Relaxed),
            verdict,
            wrong,
            fences: self.fences.found(),
            fences_stuck,
            seconds: self.began.elapsed().as_secs_f64(),
        }
    }

    /// Says how far it is, until a process ends by itself.
    async fn watch(&self) -> Failure {
        let mut said = Instant::now();
        loop {
            if let Some(fallen) = self.nodes.fallen() {
                return Failure::new(70, fallen);
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                let (published, fences) = (self.book.assured(), self.fences.found());
                let line = format!("{published} published, {} fences done", fences.done);
                if let Err(failure) = self.output.note(&self.line(&line)) {
                    return failure;
                }
            }
            sleep(ASK_EVERY).await;
        }
    }

    fn line(&self, text: &str) -> String {
        format!("{:>7.1} s  {text}", self.began.elapsed().as_secs_f64())
    }
}

/// How long faults are spread over.
fn span(counts: Counts, events: usize) -> Duration {
    let faults = FAULT_TAKES * u32::try_from(counts.all()).unwrap_or(u32::MAX);
    let events = Duration::from_secs((events / EVENTS_PER_SECOND) as u64);
    faults.max(events).max(SPAN_MIN)
}

fn ended_by_itself(ended: Result<Result<Infallible, Failure>, tokio::task::JoinError>) -> Failure {
    match ended {
        Ok(Ok(never)) => match never {},
        Ok(Err(failure)) => failure,
        Err(error) => Failure::new(70, error.to_string()),
    }
}
