//! How every stream of an application begins: it is answered at once, and a task of its own waits
//! for the first message, which must be `open`.

use std::future::Future;
use std::time::Duration;

use evermesh_identity::Identity;
use evermesh_telemetry::Refusal;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::errors::draining;
use crate::service::Local;

/// How long the first message may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);
/// Messages between the loop and the connection: one is sent while the next is made.
const ANSWERS_MAX: usize = 2;
/// How long a caller that does not read is waited for with the reason why its stream ends; its
/// connection ends by itself.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Where answers go.
pub(crate) type Answers<A> = mpsc::Sender<Result<A, Status>>;

/// Answers with a stream, and does the rest aside; what it ends with is its last message.
pub(crate) fn aside<A: Send + 'static, Run, Running>(
    local: &Local,
    who: &Identity,
    run: Run,
) -> Result<ReceiverStream<Result<A, Status>>, Refusal>
where
    Run: FnOnce(Local, Identity, Answers<A>) -> Running,
    Running: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    if local.drain.is_cancelled() {
        return Err(draining());
    }
    let (answers, stream) = mpsc::channel(ANSWERS_MAX);
    let (refusals, text) = (local.refusals.clone(), who.text().clone());
    let running = run(local.clone(), who.clone(), answers.clone());
    tokio::spawn(async move {
        if let Err(end) = running.await {
            let status = refusals.refuse(&text, end);
            let _ = answers.send_timeout(Err(status), LAST_WORD).await;
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// The first message, if `open` finds it to be one; `None`: the caller went away before.
pub(crate) async fn first<S, O>(
    said: &mut Streaming<S>,
    open: impl FnOnce(S) -> Option<O>,
) -> Result<Option<O>, Refusal> {
    let first = match tokio::time::timeout(OPEN_DEADLINE, said.message()).await {
        Ok(Ok(None) | Err(_)) => return Ok(None),
        Ok(Ok(Some(first))) => open(first),
        Err(_) => None,
    };
    first.map(Some).ok_or_else(|| {
        let message = "the first message must be `open`, within 10 s";
        Refusal::new(Code::InvalidArgument, "OPEN_EXPECTED", message)
    })
}
