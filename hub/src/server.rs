//! Wiring a server together, running it, and stopping it without losing anything.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use todoke_analytics::{Engine, EngineConfig, LakeSource, RollupConfig};
use todoke_domain::{Timestamp, delivery::Provider};
use todoke_ingest::{LakeSink, RecordFeed, SinkConfig, UsageLog, UsageLogConfig};
use todoke_lake::{CompactOptions, Compacted, Lake, LakeError, LakeOptions, Told, Upkeep};
use todoke_notifier::{
    Channel,
    apns::Apns,
    dispatch::{Dispatcher, DispatcherParts, Wake},
    fcm::Fcm,
    mail::Mail,
    web_push::WebPush,
};
use todoke_store::{Durability, Store, StoreError, Wall, municipality::Instance};
use todoke_workflow::{Live, Workflow, secret};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

use crate::{
    api,
    bodies::Bodies,
    broadcasts,
    broker::MemoryBroker,
    clock::Clock,
    config::{Config, LakeConfig},
    dimensions, error_page, event_log,
    feed::StoreFeed,
    gate::RecordGate,
    limit::Limiter,
    live::{Announcer, AnnouncerQueue},
    live_samples,
    nodes::NodeNote,
    problem::Problem,
    quarantine,
    realtime::{self, Realtime},
    run_file::RunFile,
    services::Services,
    state::{AppState, Parts},
    telemetry, timers,
    token::Tokens,
    web,
};

/// A wired server that has not begun to answer.
#[derive(Debug)]
pub struct Server {
    state: AppState,
    listener: TcpListener,
    /// What asks it to stop, heard from the wiring on: who is told that it is ready may ask at once.
    signals: [Signal; 2],
    services: Services,
    sockets: TaskTracker,
    stop_edge: CancellationToken,
    stop_core: CancellationToken,
    /// Held until the record is closed: threads of services go on until then.
    closed: DropGuard,
    data: PathBuf,
    /// At a lake that other nodes use as well.
    node: Option<NodeNote>,
}

/// Folder of the app usage kept by day, below the data folder. It may be deleted while no server runs.
pub const ROLLUPS: &str = "rollups";
/// Most memory for it. A year of a city of 20,000 active people takes a few MiB.
const ROLLUP_BYTES_MAX: usize = 256 << 20;

/// Opens the record the configuration names.
pub async fn open_record(config: &Config, durability: Durability) -> anyhow::Result<Store> {
    std::fs::create_dir_all(&config.data).with_context(|| format!("{} cannot be made", config.data.display()))?;
    let record = &config.record;
    let store = if record.url.is_empty() {
        Store::open_sqlite(&config.data.join("record.sqlite"), durability).await
    } else {
        Store::open_postgres(&record.url, &record.schema, record.connections_max).await
    };
    store.context("the record cannot be opened")
}

/// Opens the lake for writing, where the configuration says it lies; a bucket is asked first whether it can hold one.
/// `told` is [`Told::Unknown`] for whoever has not both sources open.
pub async fn open_lake(config: &Config, told: &Told) -> anyhow::Result<Arc<Lake>> {
    let location = config.lake_location()?;
    location.probe().await.with_context(|| format!("the lake cannot be in {location}"))?;
    Lake::open_told(&location, LakeOptions::default(), told).await.context("the lake cannot be opened")
}

/// What the record and the usage log were told that the lake holds.
pub async fn told(store: &Store, epoch: &str, usage: &UsageLog) -> anyhow::Result<Told> {
    let record = StoreFeed::new(store.clone(), epoch).app_id();
    let usage_app = usage.app_id(&SinkConfig::default().node);
    let done = i64::try_from(usage.done()).unwrap_or(i64::MAX);
    Ok(Told::Through(BTreeMap::from([(record, store.lake_batches_done().await?), (usage_app, done)])))
}

/// Opens the usage log and says how long that took: after a crash it is most of the time until the server answers.
fn open_usage_log(config: &Config) -> anyhow::Result<UsageLog> {
    let begun = Instant::now();
    let usage = UsageLog::open(&config.data.join("ingest"), UsageLogConfig::default())
        .context("the usage log cannot be opened")?;
    let open_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(log.open_ms = open_ms, log.backlog_bytes = usage.backlog_bytes(), "the usage log is open");
    Ok(usage)
}

fn sink_config(config: &Config) -> SinkConfig {
    SinkConfig {
        flush_age_ms_max: config.lake.flush_age_ms_max,
        flush_rows_max: config.lake.flush_rows_max as u64,
        staged_bytes_max: config.lake.staged_mib_max << 20,
        ..SinkConfig::default()
    }
}

/// The record's identity, made at its first start.
pub async fn identity(store: &Store, clock: &Clock) -> anyhow::Result<Instance> {
    let mut tx = store.begin_write(Wall::None).await?;
    if let Some(instance) = tx.instance().await? {
        return Ok(instance);
    }
    let made = Instance { epoch: fresh_epoch(), token_secret: secret::token() };
    tx.insert_instance(&made, clock.now()).await?;
    tx.commit().await?;
    Ok(made)
}

/// A name for the numbering of live channels that no other record has.
pub fn fresh_epoch() -> String {
    secret::token()[..12].to_owned()
}

impl Server {
    /// Opens everything and binds the address; nothing is answered yet.
    pub async fn wire(mut config: Config, demo: bool) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let metrics = telemetry::init_metrics();
        let store = open_record(&config, Durability::Full).await?;
        let instance = identity(&store, &clock).await?;
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("{} cannot be bound", config.listen))?;
        config.listen = listener.local_addr()?;
        let usage = open_usage_log(&config)?;
        let lake = open_lake(&config, &told(&store, &instance.epoch, &usage).await?).await?;
        let node = NodeNote::leave(&config, &usage).await?;
        let feed = Arc::new(StoreFeed::new(store.clone(), &instance.epoch));
        let sink = LakeSink::new(lake.clone(), Some(usage.clone()), Some(feed), clock.as_fn(), sink_config(&config));
        let wake = Wake::default();
        let (announcer, queue) = Announcer::new(sink.wake(), wake.clone());
        let tokens = Arc::new(Tokens::new(&instance.token_secret));
        let gate = Arc::new(RecordGate::new(store.clone(), &instance.epoch, tokens.clone(), clock.clone()));
        let live: Arc<dyn Live> = announcer.clone();
        let workflow = Workflow::new(store.clone(), live, &config.public_url());
        gate.attach(workflow.clone());
        let (sockets, stop_edge, stop_core) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let broker = Arc::new(MemoryBroker::new(config.broker.clone(), gate.clone()));
        let hub = Realtime::new(config.realtime.clone(), gate, broker, sockets.clone(), stop_edge.clone());
        announcer.attach(hub.clone());
        let engine_config = EngineConfig {
            memory_bytes_max: config.query.memory_mib_max * 1024 * 1024,
            rollups: Some(RollupConfig { dir: config.data.join(ROLLUPS), bytes_max: ROLLUP_BYTES_MAX }),
            ..EngineConfig::default()
        };
        let engine = Engine::new(Arc::new(LakeSource::new(lake.view())), engine_config)
            .context("the query engine cannot start")?;
        let local_secret = secret::token();
        let note = RunFile { listen: config.listen, secret: local_secret.clone(), pid: std::process::id() };
        note.write(&config.data)?;
        let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        let data = config.data.clone();
        let dispatcher = dispatcher(&config, &store, &clock, wake, demo)?;
        let state = AppState::new(Parts {
            workflow: workflow.clone(),
            hub: hub.clone(),
            usage,
            bodies: Arc::new(Bodies::new(config.ingest.bodies_mib_max, api::BODY_MIB_MAX)),
            lake: lake.clone(),
            sink: sink.status(),
            engine: engine.clone(),
            clock: clock.clone(),
            config,
            tokens,
            limiter: Limiter::default(),
            metrics,
            demo,
            local_secret,
        });
        let mut services = Services::default();
        let core = stop_core.clone();
        let closed = CancellationToken::new();
        services.spawn_on_thread("deliveries", async move { Ok(dispatcher.run(core).await?) }, closed.clone())?;
        spawn_services(
            &mut services,
            Spawned { store, lake, workflow, clock, hub, queue, sink, engine, config: state.config().clone() },
            &stop_edge,
            &stop_core,
        );
        let closed = closed.drop_guard();
        Ok(Self { state, listener, signals, services, sockets, stop_edge, stop_core, closed, data, node })
    }

    /// Address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.state.config().listen
    }

    /// What handlers see.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// The services, for a demo's traffic to run among them.
    pub fn services(&mut self) -> (&mut Services, CancellationToken) {
        (&mut self.services, self.stop_edge.clone())
    }

    /// Answers until a signal comes or a service fails; then stops in order: no new requests, sockets told,
    /// lake flushed, record closed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let app = router(self.state.clone());
        let edge = self.stop_edge.clone();
        let [mut interrupt, mut terminate] = self.signals;
        let listener = self.listener;
        if let Some(node) = &self.node {
            let answering = node.answering(self.state.usage.clone());
            self.services.spawn("nodes", answering.run(self.stop_edge.clone()));
        }
        self.services.spawn("http", async move {
            let service = app.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).with_graceful_shutdown(async move { edge.cancelled().await }).await?;
            Ok(())
        });
        let outcome = tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            error = self.services.first_end() => Err(error),
        };
        tracing::info!("stopping");
        let drain = Duration::from_secs(self.state.config().http.drain_s_max);
        self.stop_edge.cancel();
        self.sockets.close();
        if timeout(drain / 2, self.sockets.wait()).await.is_err() {
            tracing::warn!("some sockets did not close in time");
        }
        // Only now may ingest end: everything acknowledged before has reached its source.
        self.stop_core.cancel();
        let all_ended = self.services.join_all(drain).await;
        close_usage_log(&self.state.usage, self.node, all_ended).await;
        self.state.workflow.store().close().await;
        drop(self.closed);
        RunFile::remove(&self.data);
        tracing::info!("stopped");
        outcome
    }
}

/// Closes the log, which deletes what the lake has of it, and only then takes the node's note away: whoever forgets a
/// person takes it for granted that nothing of them is left here.
async fn close_usage_log(usage: &UsageLog, node: Option<NodeNote>, all_ended: bool) {
    match (usage.close().await, node) {
        (Ok(()), Some(node)) if all_ended && usage.backlog_bytes() == 0 => node.remove().await,
        (Ok(()), _) => {}
        (Err(error), _) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the usage log is left as after a crash");
        }
    }
}

fn dispatcher(config: &Config, store: &Store, clock: &Clock, wake: Wake, demo: bool) -> anyhow::Result<Dispatcher> {
    Ok(Dispatcher::new(DispatcherParts {
        store: store.clone(),
        channels: channels(config)?,
        settings: config.delivery.clone(),
        base_url: config.public_url(),
        // The demo's mailbox goes on showing them.
        keep_texts: demo,
        now: clock.as_fn(),
        wake,
    }))
}

/// The channels that are set up; deliveries of the others wait in the record.
fn channels(config: &Config) -> anyhow::Result<Vec<(Provider, Arc<dyn Channel>)>> {
    let mut channels: Vec<(Provider, Arc<dyn Channel>)> = Vec::new();
    if config.mail.is_on() {
        channels.push((Provider::Smtp, Arc::new(Mail::new(&config.mail).context("mail cannot be sent")?)));
    }
    if config.fcm.is_on() {
        channels.push((Provider::Fcm, Arc::new(Fcm::new(&config.fcm).context("FCM cannot be used")?)));
    }
    if config.apns.is_on() {
        channels.push((Provider::Apns, Arc::new(Apns::new(&config.apns).context("APNs cannot be used")?)));
    }
    if config.web_push.is_on() {
        let web_push = WebPush::new(&config.web_push).context("push to browsers cannot be used")?;
        channels.push((Provider::WebPush, Arc::new(web_push)));
    }
    Ok(channels)
}

struct Spawned {
    store: Store,
    lake: Arc<Lake>,
    workflow: Workflow,
    clock: Clock,
    hub: Arc<crate::state::Hub>,
    queue: AnnouncerQueue,
    sink: LakeSink,
    engine: Engine,
    config: Config,
}

fn spawn_services(
    services: &mut Services,
    parts: Spawned,
    stop_edge: &CancellationToken,
    stop_core: &CancellationToken,
) {
    let Spawned { store, lake, workflow, clock, hub, queue, sink, engine, config } = parts;
    let realtime = hub.clone();
    let edge = stop_edge.clone();
    services.spawn("realtime", async move {
        realtime.run().await;
        // It ends when the edge stops; ending before that is a fault.
        anyhow::ensure!(edge.is_cancelled(), "the realtime hub ended");
        Ok(())
    });
    let sample_every = Duration::from_secs(config.realtime.sample_every_s);
    services.spawn(
        "live samples",
        live_samples::run(workflow.clone(), hub.clone(), clock.clone(), sample_every, stop_edge.clone()),
    );
    services.spawn("announcer", queue.run(hub, stop_core.clone()));
    let core = stop_core.clone();
    services.spawn("lake", async move { Ok(sink.run(core).await?) });
    services.spawn("timers", timers::run(workflow.clone(), clock.clone(), stop_edge.clone()));
    services.spawn("broadcasts", broadcasts::run(workflow, clock.clone(), stop_edge.clone()));
    services.spawn("dimensions", dimensions::run(store.clone(), lake.clone(), stop_edge.clone()));
    if !config.lake.url.is_empty() && config.lake.refresh_every_s > 0 {
        let every = Duration::from_secs(config.lake.refresh_every_s);
        services.spawn("lake view", follow(lake.clone(), every, stop_edge.clone()));
    }
    let log = event_log::run(store.clone(), clock.clone(), config.record.events_fiscal_years, stop_edge.clone());
    services.spawn("event log", log);
    services.spawn("upkeep", upkeep(store, lake, engine, clock, config.lake, stop_edge.clone()));
}

/// Shows what other nodes commit to the lake.
async fn follow(lake: Arc<Lake>, every: Duration, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(every) => {}
        }
        if let Err(error) = lake.view().refresh().await {
            tracing::warn!(error = %error, "what other nodes committed to the lake was not seen");
        }
    }
}

/// How long files are kept that the newest version of a table does not need.
pub fn files_kept() -> Duration {
    Duration::from_secs(u64::from(LakeOptions::default().file_retention_hours) * 3_600)
}

/// Takes days past their time out of the lake, joins small files, removes what nobody reads any more, also of what is
/// kept by day, looks at contents that an earlier version quarantined, and forgets old ones.
async fn upkeep(
    store: Store,
    lake: Arc<Lake>,
    engine: Engine,
    clock: Clock,
    config: LakeConfig,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let every = Duration::from_secs(config.compact_every_min.max(1) * 60);
    let files_kept = files_kept();
    let options = CompactOptions {
        memory_bytes_max: config.compact_mib_max.saturating_mul(1 << 20),
        bytes_per_s_max: config.compact_mib_per_s_max.saturating_mul(1 << 20),
        ..CompactOptions::default()
    };
    // First: while this node was stopped, another one may have forgotten somebody.
    tidy_rollups(&engine).await;
    look_at_quarantined(&store, &stop).await;
    let mut wait = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        wait = begin_upkeep(&lake, every, clock.now()) => wait,
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        wait = every;
        // Other processes may have written history; what is compacted must be what is there.
        if let Err(error) = lake.view().refresh().await {
            tracing::warn!(error = %error, "the lake was not looked at again");
        }
        for table in lake.stats().into_iter().filter(|table| table.version > 0).map(|table| table.table) {
            match lake.expire(&table, &config.retention, clock.now()).await {
                Ok(expired) if expired.files > 0 => {
                    tracing::info!(lake.table = table, n_rows = expired.rows, "days past their time left a table");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = %error, lake.table = table, "days past their time did not leave a table");
                }
            }
            match lake.compact(&table, &options, clock.now()).await {
                Ok(done) => note_compacted(&table, &done),
                Err(error) => tracing::warn!(error = %error, lake.table = table, "a table was not compacted"),
            }
        }
        // Many files take minutes to delete, and a stop that waited for them would be cut off.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ended = end_upkeep(&lake, files_kept, clock.now()) => if let Err(error) = ended {
                tracing::warn!(error = %error, "old files of the lake were not removed");
            },
        }
        tidy_rollups(&engine).await;
        // Again: nodes of an earlier version may have gone on beside this one.
        look_at_quarantined(&store, &stop).await;
        let before = clock.now().minus(Duration::from_secs(quarantine::KEPT_DAYS * 86_400));
        if let Err(error) = forget_quarantined(&store, before).await {
            tracing::warn!(error = %error, "old quarantined events were not removed");
        }
    }
}

/// Says what a compaction found that is out of the ordinary.
fn note_compacted(table: &str, done: &Compacted) {
    if done.files_too_large > 0 {
        tracing::warn!(
            lake.table = table,
            n_files = done.files_too_large,
            "files stay as they are: lake.compact_mib_max has no room for them"
        );
    }
    if done.repetitions + done.conflicts + done.files_not_asked > 0 {
        tracing::info!(
            lake.table = table,
            n_repetitions = done.repetitions,
            n_conflicts = done.conflicts,
            n_files_not_asked = done.files_not_asked,
            "ids that came twice left a table"
        );
    }
}

/// How long to wait before the first look, so that restarts do not put it off for ever.
async fn begin_upkeep(lake: &Lake, every: Duration, now: Timestamp) -> Duration {
    let noted = match lake.upkeep().await {
        Ok(upkeep) if upkeep.looked_at.is_none() => lake.note_upkeep(&Upkeep { looked_at: Some(now), ..upkeep }).await,
        Ok(upkeep) => return upkeep.wait(every, now),
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        tracing::warn!(error = %error, "when the lake was last looked after is not known");
    }
    every
}

/// Notes the look, and vacuums if the last time was long enough ago.
async fn end_upkeep(lake: &Lake, files_kept: Duration, now: Timestamp) -> Result<(), LakeError> {
    let upkeep = Upkeep { looked_at: Some(now), ..lake.upkeep().await? };
    lake.note_upkeep(&upkeep).await?;
    if upkeep.vacuum_is_due(now) {
        let n_files = lake.vacuum_all(files_kept, now).await?;
        tracing::info!(n_files, "files that nobody needs left the lake");
    }
    Ok(())
}

/// Days of app usage that the lake has no more, or has otherwise, leave the disk without being asked for.
async fn tidy_rollups(engine: &Engine) {
    if let Err(error) = engine.tidy_rollups().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "days of app usage that are over were not deleted");
    }
}

/// An earlier version kept what somebody typed.
async fn look_at_quarantined(store: &Store, stop: &CancellationToken) {
    match quarantine::look_at_stored(store, stop).await {
        Ok(0) => {}
        Ok(n_entries) => tracing::info!(n_entries, "of quarantined events only what may be kept is left"),
        Err(error) => tracing::warn!(error = %error, "quarantined events of an earlier version were not looked at"),
    }
}

async fn forget_quarantined(store: &Store, before: Timestamp) -> Result<(), StoreError> {
    let mut tx = store.begin_long(Wall::None).await?;
    tx.forget_quarantined(before).await?;
    tx.commit().await
}

/// All routes with their layers.
pub fn router(state: AppState) -> Router {
    let mut routes = api::routes();
    if state.demo {
        routes = routes.merge(api::demo_routes());
    }
    let (routes, document) = routes.split_for_parts();
    let document = Arc::new(document.to_json().unwrap_or_default());
    let openapi = move || {
        let document = document.clone();
        async move { ([("content-type", "application/json")], document.as_str().to_owned()) }
    };
    let plain = routes
        .route("/openapi.json", axum::routing::get(openapi))
        .fallback(web::page)
        .layer(middleware::from_fn(when_settled))
        .layer(CompressionLayer::new())
        .layer(DefaultBodyLimit::max(state.config().http.body_bytes_max))
        .layer(CatchPanicLayer::custom(panicked));
    // The socket route stays outside compression: after the upgrade the wire is the hub's alone.
    plain
        .merge(crate::local::routes())
        .merge(realtime::routes(state.hub.clone()))
        .layer(middleware::from_fn(error_page::for_people))
        .layer(middleware::from_fn_with_state(state.clone(), telemetry::observe))
        .with_state(state)
}

/// Only here does an answer leave: what it rests on is durable by then. Where that failed, the answer is the fault.
async fn when_settled(request: Request, next: Next) -> Response {
    let answer = todoke_store::when_settled(next.run(request)).await;
    answer.unwrap_or_else(|error| Problem::from(error).into_response())
}

/// A handler's panic is a fault of ours like any other: the text goes to the log, the client gets the problem.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without a text"), "a handler panicked");
    Problem::fault().into_response()
}
