//! The one scenario that is shown, if any, and whose turn it is to go on with it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use teaching::lessons::Run;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::limits::LESSON_TRANSFERS;
use crate::transcript::Transcript;

/// The place of the one scenario.
pub struct ShownScenario {
    /// The scenario.
    pub run: Mutex<Option<Run>>,
    /// What of it the class has seen.
    pub transcript: Mutex<Transcript>,
    /// One step is done at a time.
    pub place: Arc<Semaphore>,
    /// Transfers of scenarios that wait, also of one that is over.
    pub transfers: Arc<Semaphore>,
    /// Whether the scenario is to end, so that nobody is waited for any more.
    pub is_ending: AtomicBool,
}

impl ShownScenario {
    /// Nothing is shown.
    #[must_use]
    pub fn new() -> Self {
        Self {
            run: Mutex::new(None),
            transcript: Mutex::default(),
            place: Arc::new(Semaphore::new(1)),
            transfers: Arc::new(Semaphore::new(LESSON_TRANSFERS)),
            is_ending: AtomicBool::new(false),
        }
    }

    /// The right to do the next step.
    ///
    /// # Errors
    /// [`Error::Conflict`] while another has it.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.place).try_acquire_owned().map_err(|_| Error::Conflict {
            code: "scenario_busy",
            text: "the scenario is still doing the step before; wait for it".into(),
        })
    }
}

impl Default for ShownScenario {
    fn default() -> Self {
        Self::new()
    }
}
