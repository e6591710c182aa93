//! `evermesh ca`: a certificate authority for those who have none.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use evermesh_event::NodeName;
use evermesh_identity::{Error, ca};

use crate::failure::{Failure, USAGE};
use crate::output::Output;

/// The file or directory could not be made.
const CANNOT_CREATE: u8 = 73;

/// Make certificates for the nodes and applications of a mesh
///
/// For those who have no authority of their own. Keep ca.key away from every node: whoever has it
/// can let anybody in.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  evermesh ca init --dir ca --trust-domain mesh.internal
  evermesh ca issue --dir ca --node web-1 --dns web-1.internal --out /etc/evermesh
  evermesh ca issue --dir ca --app shop --out shop")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Init(Init),
    Issue(Issue),
}

/// Make an authority: ca.pem and ca.key
#[derive(Debug, clap::Args)]
struct Init {
    /// The authority's directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The name of the mesh, as in spiffe://mesh.internal/node/web-1
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: String,
}

/// Issue a certificate to a node or an application: NAME.pem and NAME.key, and a copy of ca.pem
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
struct Issue {
    /// The authority's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// For a node of this name
    #[arg(long, value_name = "NAME", group = "subject")]
    node: Option<String>,
    /// For an application of this name
    #[arg(long, value_name = "NAME", group = "subject")]
    app: Option<String>,
    /// A name at which applications dial the node, besides its own; may be given several times
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// An address at which applications dial the node; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// For how many days
    #[arg(
        long,
        value_name = "N",
        default_value_t = ca::LEAF_DAYS_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ca::LEAF_DAYS_MAX))
    )]
    days: u32,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let now = SystemTime::now();
    match args.action {
        Action::Init(init) => make(init, now, output),
        Action::Issue(issue) => self::issue(issue, now, output),
    }
}

fn make(init: Init, now: SystemTime, output: &Output) -> Result<(), Failure> {
    let new = ca::NewAuthority { dir: init.dir, trust_domain: init.trust_domain };
    let made = ca::init(&new, now).map_err(|error| failure(&error))?;
    output.line(&format!(
        "made the authority of {}, valid until {}\n\
         \x20 {}   every node and application trusts it\n\
         \x20 {}   issues certificates; keep it away from the nodes",
        new.trust_domain,
        date(made.not_after),
        made.cert.display(),
        made.key.display(),
    ))
}

fn issue(issue: Issue, now: SystemTime, output: &Output) -> Result<(), Failure> {
    let subject = match (issue.node, issue.app) {
        (Some(node), _) => ca::Subject::Node(
            NodeName::new(&node).map_err(|error| Failure::new(USAGE, error.to_string()))?,
        ),
        (None, app) => ca::Subject::App(app.unwrap_or_default()),
    };
    let leaf =
        ca::Leaf { subject, dns: issue.dns, ip: issue.ip, out_dir: issue.out, days: issue.days };
    let issued = ca::issue(&issue.dir, &leaf, now).map_err(|error| failure(&error))?;
    output.line(&format!(
        "issued until {}\n  cert  {}\n  key   {}\n  ca    {}",
        date(issued.not_after),
        issued.cert.display(),
        issued.key.display(),
        issued.ca.display(),
    ))
}

fn failure(error: &Error) -> Failure {
    let code = match error {
        Error::File { .. } | Error::Taken { .. } => CANNOT_CREATE,
        Error::Subject { .. } => USAGE,
        _ => crate::failure::CONFIG,
    };
    Failure::new(code, error.to_string())
}

/// The day on which it ends, in UTC.
fn date(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map_or_else(|_| "the end of time".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}
