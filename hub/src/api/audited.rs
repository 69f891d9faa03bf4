//! The note that an office saw or took personal rows (N-SEC-19), made before the rows leave.

use todoke_workflow::audit::Access;

use crate::{auth::Caller, problem::Problem, state::AppState};

/// Notes the access; the answer waits until that is durable.
pub(super) async fn audited(
    app: &AppState,
    caller: &Caller,
    what: Access,
    object_kind: &'static str,
    rows: usize,
) -> Result<(), Problem> {
    Ok(app.workflow.note_access(&caller.actor, what, object_kind, rows, app.now()).await?)
}
