//! The actions that share nothing with their neighbours: each is read, carried out and answered here.

use protocol::AccountNum;
use protocol::actions::Action;
use protocol::answer::{PasswordVersionOf, TxStatus, Welcome};
use protocol::proof::{Nonce, Prover, from_hex, to_hex};
use protocol::request::{
    Authenticate, CheckPassword, Hello, History, Link, ListAccounts, Login, NoParams, OneTx, PasswordVersions, Prepare,
    RequestFrame,
};
use serde::Serialize;
use two_phase_commit::{Outcome, PeerAddr, Side};

use super::answers::{ResultJson, list, single, to_json};
use super::batch::batch;
use super::requests::{self, PendingParams};
use super::session::{After, BranchSession, Challenge};
use crate::bank::accounts::Account;
use crate::error::{Error, Result};
use crate::limits::LIST_ROWS;
use crate::lockout::Origin;
use crate::service::{by_hand, reports};

/// Who a caller has proved to be.
#[derive(Serialize)]
struct Role {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_no: Option<AccountNum>,
}

/// A participant's vote; a refusal is an error.
#[derive(Serialize)]
struct Vote {
    vote: &'static str,
}

impl BranchSession<'_> {
    /// Answers a request that shares nothing with its neighbours.
    pub(super) fn answer_alone(
        &mut self,
        action: Action,
        frame: &RequestFrame<'_>,
        after: &mut After,
    ) -> Result<ResultJson> {
        let (service, requester) = (self.requester.service, &self.requester);
        match action {
            Action::Hello => single(self.hello(&frame.params()?)),
            Action::Authenticate => single(self.authenticate(&frame.params()?)),
            Action::Login => single(self.log_in(&frame.params()?)),
            Action::CheckPassword => single(self.check_password(frame.params()?)),
            Action::PasswordVersions => {
                single(reports::password_versions(service, &frame.params::<PasswordVersions>()?.account_nos))
            }
            Action::Link => self.link(frame.params()?, after),
            Action::Replicate => self.replicate(frame, after),
            Action::Follow => single(service.replication.told_of_primary(&frame.params()?, requester.address())),
            Action::Promote => {
                let (promotion, opened) = service.replication.promote(&frame.params()?)?;
                *after = After::ChangeRole(opened);
                single(Ok(promotion))
            }
            Action::Demote => {
                *after = After::ChangeRole(service.replication.demote(&frame.params()?)?);
                single(Ok(true))
            }
            Action::Resync => single(service.replication.resync().map(|()| true)),
            Action::Watch => {
                *after = After::Watch(frame.params()?);
                single(Ok(()))
            }
            Action::ListAccounts => self.list_accounts(&frame.params()?),
            Action::History | Action::GetLogs => self.history(&frame.params()?),
            Action::Status => {
                frame.params::<NoParams>()?;
                single(requester.read_long(|| reports::status(service)))
            }
            Action::Audit => single(requester.read_long(|| reports::audit(service))),
            Action::Branches => single(Ok(reports::branches(service))),
            Action::ListPending => {
                let PendingParams { after, limit } = frame.params()?;
                let page = reports::pending(service, after.as_ref(), requests::rows(limit))?;
                Ok(list(&page, |row| to_json(&row.txid)))
            }
            Action::TxStatus => {
                let outcome = service.engine.tx_status(&frame.params::<OneTx>()?.txid)?;
                single(Ok(TxStatus { outcome: outcome.as_str().into() }))
            }
            Action::Resolve => {
                let (settling, key) = requests::settling(requester.caller(), frame)?;
                let settled = by_hand::settle(service, &settling, key);
                single(settled.map(|()| TxStatus { outcome: settling.outcome.to_string() }))
            }
            Action::PrepareWithdraw => single(self.prepare(Side::Withdraw, &frame.params()?)),
            Action::PrepareDeposit => single(self.prepare(Side::Deposit, &frame.params()?)),
            Action::CommitWithdraw | Action::CommitDeposit => single(self.decide(&frame.params()?, Outcome::Committed)),
            Action::AbortWithdraw | Action::AbortDeposit => single(self.decide(&frame.params()?, Outcome::Aborted)),
            Action::Batch => batch(requester, frame).map(|json| (json, None)),
            // A branch without --teaching has no lesson, and looks at nothing else.
            Action::Stage => single(service.lesson()?.look(&frame.params()?)),
            Action::StepMode => single(service.lesson()?.step_mode(&frame.params()?)),
            Action::Step => single(service.lesson()?.step(&frame.params()?)),
            Action::PassTime => single(service.lesson()?.pass_time(&frame.params()?)),
            Action::Fault => single(service.lesson()?.fault(&frame.params()?)),
            Action::Crash => single(service.lesson()?.crash(&frame.params()?)),
            Action::CreateAccount
            | Action::CloseAccount
            | Action::Balance
            | Action::Deposit
            | Action::Withdraw
            | Action::LocalTransfer
            | Action::SetPassword
            | Action::ClearSuspense
            | Action::InterBranchTransfer
            | Action::SplitTransfer => unreachable!("these are queued with their like"),
        }
    }

    /// The first half of a mutual proof: this branch shows that it has the key, and asks the client to show the same.
    fn hello(&mut self, params: &Hello) -> Result<Welcome> {
        let client = from_hex(&params.nonce)
            .ok_or_else(|| Error::Invalid("a nonce is 32 bytes in 64 hexadecimal digits".into()))?;
        let mut branch = Nonce::default();
        getrandom::fill(&mut branch).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        let service = self.requester.service;
        let name = service.bank.name().as_str();
        let proof = service.key.prove(Prover::Branch, &client, &branch, name);
        self.challenge = Some(Challenge { client, branch });
        Ok(Welcome { branch: name.to_string(), nonce: to_hex(&branch), proof })
    }

    fn authenticate(&mut self, params: &Authenticate) -> Result<Role> {
        // Each challenge serves once: a proof that was listened to proves nothing a second time.
        let challenge = self.challenge.take().ok_or(Error::NotAllowed("say hello first"))?;
        let service = self.requester.service;
        let name = service.bank.name().as_str();
        if !service.key.is_proof(&params.proof, Prover::Client, &challenge.client, &challenge.branch, name) {
            return Err(Error::NotAllowed("this is not the key of this bank"));
        }
        self.requester.become_key_holder();
        Ok(Role { role: "operator", account_no: None })
    }

    fn log_in(&mut self, params: &Login) -> Result<Role> {
        self.requester.log_in(params.account_no, &params.password)?;
        Ok(Role { role: "customer", account_no: Some(params.account_no) })
    }

    fn check_password(&self, params: CheckPassword) -> Result<PasswordVersionOf> {
        let CheckPassword { account_no, password } = params;
        // The bridge asks for many people, and its own address is not theirs: a wrong password counts to the account.
        let version = self.requester.service.bank.log_in(account_no.as_i64(), &password, Origin::OnBehalf)?;
        Ok(PasswordVersionOf { account_no, password_version: Some(version.to_string()) })
    }

    /// Another branch would make this connection its link.
    fn link(&self, params: Link, after: &mut After) -> Result<ResultJson> {
        let service = self.requester.service;
        let links = service.engine.links();
        links.refuse_cut(&PeerAddr::from(&params.branch))?;
        // What it says of epochs comes first: a copy that was replaced must not speak for its branch any more.
        service.replication.check_link_epochs(&params, links.directory())?;
        links.refuse_name_conflict(&params, self.requester.address())?;
        let linked = links.introduction();
        // A branch that has called itself has found out who is at that address, and needs no link.
        if params.branch != *service.bank.name() {
            *after = After::BecomeLink(params);
        }
        single(Ok(linked))
    }

    /// A replica would follow this primary.
    fn replicate(&self, frame: &RequestFrame<'_>, after: &mut After) -> Result<ResultJson> {
        let params = frame.params().map_err(|error| {
            Error::Invalid(format!(
                "this is no replica of this program ({error}): what an older system sends as replicate is not taken; start the copy with --replica-of"
            ))
        })?;
        let (granted, stream) = self.requester.service.replication.grant_stream(&params, self.requester.address())?;
        if let Some(stream) = stream {
            *after = After::Replicate(stream);
        }
        single(Ok(granted))
    }

    fn list_accounts(&self, params: &ListAccounts) -> Result<ResultJson> {
        // Older programs know no `next`: they get as many as one answer carries.
        let limit = params.limit.unwrap_or(LIST_ROWS).clamp(1, LIST_ROWS);
        let service = self.requester.service;
        let page = self.requester.read_long(|| reports::accounts(service, params.after, false, limit))?;
        Ok(list(&page.map(account_line), |line| to_json(&line.account_no)))
    }

    fn history(&self, params: &History) -> Result<ResultJson> {
        let (service, rows) = (self.requester.service, requests::rows(params.limit));
        let page = self.requester.read_long(|| {
            let account = requests::account_of_history(self.requester.caller(), params)?;
            reports::history(service, account, params.after, rows)
        })?;
        Ok(list(&page, |line| line.transaction_id.to_string()))
    }

    /// An outside program prepares one leg. It may repeat this as it is: the transfer's id says which it is.
    fn prepare(&self, side: Side, params: &Prepare) -> Result<Vote> {
        let amount = params.amount.to_move()?;
        let coordinator = params.coordinator.as_deref();
        self.requester.service.engine.prepare(&params.txid, side, params.account_no, amount, coordinator)?;
        Ok(Vote { vote: "yes" })
    }

    /// An outside program settles what it has prepared.
    fn decide(&self, params: &OneTx, outcome: Outcome) -> Result<TxStatus> {
        self.requester.service.engine.decide(&params.txid, outcome)?;
        Ok(TxStatus { outcome: outcome.to_string() })
    }
}

fn account_line(account: Account) -> protocol::answer::AccountLine {
    let (name, Account { number: account_no, balance, held, .. }) = (account.name(), account);
    protocol::answer::AccountLine { account_no, name, balance, held }
}
