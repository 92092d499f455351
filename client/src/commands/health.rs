//! Whether a branch answers at all, for container platforms and monitors.

use protocol::request::{Action, NoParams};

use crate::commands::context::Context;
use crate::error::{BranchError, ClientError, ExitStatus};

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client health
  bank-client --host ::1 --port 9100 --timeout 4 health

It asks what anyone may ask, so it needs no key; and a branch that answers only over TLS has answered, so it needs no
certificates. Exit status 0 when a branch answers, 2 when none does.";

/// With which code a branch that has a certificate answers whoever speaks no TLS.
const TLS_REQUIRED: &str = "tls_required";

pub(super) fn run(context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let answers = match context.branch.ask(Action::Status, &NoParams {}) {
        Ok(reply) => reply.json().map(drop),
        Err(error) => Err(error),
    };
    match answers {
        Ok(()) => {}
        Err(ClientError::Branch(BranchError::Refused { error, .. })) if error.code == TLS_REQUIRED => {}
        Err(error) => return Err(error),
    }
    context.out.text("The branch answers.\n")?;
    Ok(ExitStatus::AllDone)
}
