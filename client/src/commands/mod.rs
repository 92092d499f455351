//! The commands: one action of the branch protocol each, with the branch's answer for people or as it came.
//!
//! This file owns the list of commands and their names. Each family has a file of its own, where the arguments of a command, what it sends and what it tells stand together. Commands carry the
//! names of the actions, with `_` and with `-`, and some a short one.

mod accounts;
mod audit_all;
mod batch;
mod books;
mod context;
mod health;
mod movements;
mod password;
mod replicas;
mod scenario;
mod suspense;
mod teaching;
mod trace;
mod transfers;
mod two_phase;
mod values;
mod watch;

use clap::Subcommand;
use clap_complete::Shell;
use protocol::request::{Action, NoParams};

use crate::error::{ClientError, ExitStatus};

pub use context::Context;

/// What a command asks of a branch.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show an account's balance
    #[command(after_help = accounts::BALANCE_EXAMPLES)]
    Balance(values::OneAccountArguments),
    /// Pay cash in
    #[command(after_help = movements::DEPOSIT_EXAMPLES)]
    Deposit(movements::AmountArguments),
    /// Pay cash out
    #[command(after_help = movements::WITHDRAW_EXAMPLES)]
    Withdraw(movements::AmountArguments),
    /// List the open accounts
    #[command(name = "list_accounts", alias = "list-accounts", visible_alias = "accounts",
              after_help = accounts::LIST_EXAMPLES)]
    ListAccounts(accounts::ListArguments),
    /// Open an account
    #[command(name = "create_account", alias = "create-account", visible_alias = "open",
              after_help = accounts::CREATE_EXAMPLES)]
    CreateAccount(accounts::CreateArguments),
    /// Close an account and pay its balance out
    #[command(name = "close_account", alias = "close-account", visible_alias = "close",
              after_help = accounts::CLOSE_EXAMPLES)]
    CloseAccount(values::OneAccountArguments),
    /// Set the password of an account's menu login, asked for without showing it
    #[command(name = "set_password", alias = "set-password", after_help = password::EXAMPLES)]
    SetPassword(values::OneAccountArguments),
    /// Move money to an account of this branch or of another one
    #[command(after_help = transfers::TRANSFER_EXAMPLES)]
    Transfer(transfers::TransferArguments),
    /// Move money between two accounts of this branch
    #[command(name = "local_transfer", alias = "local-transfer", after_help = transfers::LOCAL_EXAMPLES)]
    LocalTransfer(transfers::LocalArguments),
    /// Move money to an account of another branch
    #[command(name = "inter_branch_transfer", alias = "inter-branch-transfer",
              after_help = transfers::INTER_BRANCH_EXAMPLES)]
    InterBranchTransfer(transfers::InterBranchArguments),
    /// Pay many receivers, at any branches, all or none
    #[command(name = "split_transfer", alias = "split-transfer", visible_alias = "split",
              after_help = transfers::SPLIT_EXAMPLES)]
    SplitTransfer(transfers::SplitArguments),
    /// Show transactions, the newest first
    #[command(name = "history", alias = "get-logs", visible_alias = "get_logs", after_help = books::HISTORY_EXAMPLES)]
    History(books::HistoryArguments),
    /// Show how the branch is
    Status,
    /// Tell whether a branch answers, over TLS or not; for container platforms
    #[command(after_help = health::EXAMPLES)]
    Health,
    /// Recompute the books of the branch, or of all branches
    #[command(after_help = audit_all::EXAMPLES)]
    Audit(audit_all::AuditArguments),
    /// List the branches that the branch knows
    Branches,
    /// List the transfers that are in doubt or not delivered
    #[command(name = "list_pending", alias = "list-pending", visible_alias = "pending")]
    ListPending,
    /// Settle a transfer in doubt by hand
    #[command(after_help = two_phase::RESOLVE_EXAMPLES)]
    Resolve(two_phase::ResolveArguments),
    /// Move a difference out of suspense to whom it belongs, with a reason
    #[command(name = "clear_suspense", alias = "clear-suspense", after_help = suspense::EXAMPLES)]
    ClearSuspense(suspense::ClearArguments),
    /// Make this replica the primary of its branch
    #[command(after_help = replicas::PROMOTE_EXAMPLES)]
    Promote(replicas::PromoteArguments),
    /// Make this copy of a branch a replica
    #[command(after_help = replicas::DEMOTE_EXAMPLES)]
    Demote(replicas::DemoteArguments),
    /// Have this replica take a new copy of its primary's books; the old file is kept
    Resync,
    /// Show what became of a transfer between branches
    #[command(name = "tx_status", alias = "tx-status")]
    TxStatus(two_phase::TransactionArguments),
    /// Show a transfer between branches message by message
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::TraceArguments),
    /// Show events as they happen
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::WatchArguments),
    /// Send many requests in one, from a file of JSON lines
    #[command(after_help = batch::EXAMPLES)]
    Batch(batch::BatchArguments),
    /// Reserve money of an account for a withdrawal that you decide
    #[command(name = "prepare_withdraw", alias = "prepare-withdraw", after_help = two_phase::PREPARE_EXAMPLES)]
    PrepareWithdraw(two_phase::PrepareArguments),
    /// Reserve room in an account for a deposit that you decide
    #[command(name = "prepare_deposit", alias = "prepare-deposit", after_help = two_phase::PREPARE_EXAMPLES)]
    PrepareDeposit(two_phase::PrepareArguments),
    /// Carry a prepared withdrawal out
    #[command(name = "commit_withdraw", alias = "commit-withdraw")]
    CommitWithdraw(two_phase::TransactionArguments),
    /// Carry a prepared deposit out
    #[command(name = "commit_deposit", alias = "commit-deposit")]
    CommitDeposit(two_phase::TransactionArguments),
    /// Give a prepared withdrawal up
    #[command(name = "abort_withdraw", alias = "abort-withdraw")]
    AbortWithdraw(two_phase::TransactionArguments),
    /// Give a prepared deposit up
    #[command(name = "abort_deposit", alias = "abort-deposit")]
    AbortDeposit(two_phase::TransactionArguments),
    /// Teaching: show what waits to be delivered at the branch, and which faults are set
    #[command(after_help = teaching::STAGE_EXAMPLES)]
    Stage,
    /// Teaching: make every message to the branch wait, or let them pass again
    #[command(name = "step-mode", alias = "step_mode", after_help = teaching::STEP_MODE_EXAMPLES)]
    StepMode(teaching::StepModeArguments),
    /// Teaching: deliver, drop, double or delay one waiting message
    #[command(after_help = teaching::STEP_EXAMPLES)]
    Step(teaching::StepArguments),
    /// Teaching: let the protocol's clock go on while messages wait
    #[command(name = "pass-time", alias = "pass_time", after_help = teaching::PASS_TIME_EXAMPLES)]
    PassTime(teaching::PassTimeArguments),
    /// Teaching: cut, slow or heal the link to another branch
    #[command(after_help = teaching::FAULT_EXAMPLES)]
    Fault(teaching::FaultArguments),
    /// Teaching: crash the branch, now or at a named point of a transfer
    #[command(after_help = teaching::CRASH_EXAMPLES)]
    Crash(teaching::CrashArguments),
    /// Teaching: list the scenarios
    #[command(after_help = scenario::LIST_EXAMPLES)]
    Scenarios,
    /// Teaching: run a scenario, with questions to the class
    #[command(after_help = scenario::EXAMPLES)]
    Scenario(scenario::ScenarioArguments),
    /// Write a shell's completions of these commands
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  bank-client completions bash > ~/.local/share/bash-completion/completions/bank-client
  bank-client completions zsh > ~/.zfunc/_bank-client
  bank-client completions fish > ~/.config/fish/completions/bank-client.fish";

/// Carries a command out.
///
/// # Errors
/// Whatever kept it from being carried out, or from being shown.
pub fn run(command: Command, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    dispatch(command, context).map_err(|error| match (error, context.out.done.take()) {
        // What can't be shown is done all the same, and must not be done again.
        (ClientError::Output(source), Some(done)) => ClientError::Unseen { done, source },
        (error, _) => error,
    })
}

fn dispatch(command: Command, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    match command {
        Command::Balance(arguments) => accounts::balance(&arguments, context),
        Command::Deposit(arguments) => movements::deposit(&arguments, context),
        Command::Withdraw(arguments) => movements::withdraw(&arguments, context),
        Command::ListAccounts(arguments) => accounts::list(&arguments, context),
        Command::CreateAccount(arguments) => accounts::create(arguments, context),
        Command::CloseAccount(arguments) => accounts::close(&arguments, context),
        Command::SetPassword(arguments) => password::set(&arguments, context),
        Command::Transfer(arguments) => transfers::transfer(arguments, context),
        Command::LocalTransfer(arguments) => transfers::local(&arguments, context),
        Command::InterBranchTransfer(arguments) => transfers::inter_branch(arguments, context),
        Command::SplitTransfer(arguments) => transfers::split(&arguments, context),
        Command::History(arguments) => books::history(&arguments, context),
        Command::Status => context.ask(Action::Status, &NoParams {}, |status| books::tell_status(&status)),
        Command::Health => health::run(context),
        Command::Audit(arguments) => audit_all::audit(&arguments, context),
        Command::Branches => context.ask(Action::Branches, &NoParams {}, |rows: Vec<_>| books::tell_branches(&rows)),
        Command::ListPending => two_phase::list_pending(context),
        Command::Resolve(arguments) => two_phase::resolve(&arguments, context),
        Command::ClearSuspense(arguments) => suspense::clear(arguments, context),
        Command::Promote(arguments) => replicas::promote(&arguments, context),
        Command::Demote(arguments) => replicas::demote(&arguments, context),
        Command::Resync => replicas::resync(context),
        Command::TxStatus(arguments) => two_phase::status(&arguments, context),
        Command::Trace(arguments) => trace::run(&arguments, context),
        Command::Watch(arguments) => watch::run(&arguments, context),
        Command::Batch(arguments) => batch::run(&arguments, context),
        Command::PrepareWithdraw(arguments) => two_phase::prepare(Action::PrepareWithdraw, &arguments, context),
        Command::PrepareDeposit(arguments) => two_phase::prepare(Action::PrepareDeposit, &arguments, context),
        Command::CommitWithdraw(arguments) => two_phase::settle(Action::CommitWithdraw, &arguments, context),
        Command::CommitDeposit(arguments) => two_phase::settle(Action::CommitDeposit, &arguments, context),
        Command::AbortWithdraw(arguments) => two_phase::settle(Action::AbortWithdraw, &arguments, context),
        Command::AbortDeposit(arguments) => two_phase::settle(Action::AbortDeposit, &arguments, context),
        Command::Stage => teaching::stage(context),
        Command::StepMode(arguments) => teaching::step_mode(&arguments, context),
        Command::Step(arguments) => teaching::step(&arguments, context),
        Command::PassTime(arguments) => teaching::pass_time(&arguments, context),
        Command::Fault(arguments) => teaching::fault(&arguments, context),
        Command::Crash(arguments) => teaching::crash(&arguments, context),
        Command::Scenarios => scenario::list(context),
        Command::Scenario(arguments) => scenario::run(&arguments, context),
        Command::Completions { shell } => write_completions(shell, context),
    }
}

/// Writes a shell's completions. Needs no branch.
fn write_completions(shell: Shell, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    // The generator panics when its output fails, so it writes to memory.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut (context.description)(), "bank-client", &mut text);
    context.out.raw(&text)?;
    Ok(ExitStatus::AllDone)
}

#[cfg(test)]
mod tests;
