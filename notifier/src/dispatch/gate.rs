//! Who may be sent to now: a breaker for each provider, and among the push services of browsers one for each.
//!
//! Endpoints of browsers come from whoever registers a device. A service that does not answer, or was never there, must
//! cost the others nothing: it has a breaker of its own, and all those that have not taken a message of ours since they
//! last failed share a part of the lane's places.

use std::{collections::HashMap, sync::Arc, time::Duration};

use todoke_domain::{Timestamp, delivery::Provider};
use todoke_store::device::Device;

use super::{Allowance, Breaker, DispatchSettings, mark::Attempt};
use crate::{Blame, Outcome, http::Origin};

/// Push services known at a time. A handful runs all browsers.
const SERVICES_MAX: usize = 256;
/// Services in bad standing share one of so many parts of the lane's places.
const BAD_PART: usize = 4;
/// Places that they have at least.
const BAD_PLACES_MIN: usize = 4;
/// How long a delivery is held back when it is no breaker's pause that ends.
const HOLD: Duration = Duration::from_secs(2);

/// A push service by its origin, as a browser writes it.
pub(super) type Service = Arc<str>;

/// What is known of a provider or a push service.
#[derive(Debug)]
pub(super) struct Standing {
    breaker: Breaker,
    /// It has taken a message of ours.
    proven: bool,
    /// It has not failed since it last did.
    good: bool,
    n_flying: usize,
    used_at: Timestamp,
}

impl Standing {
    fn new(settings: &DispatchSettings) -> Self {
        Self {
            breaker: settings.breaker(),
            proven: false,
            good: false,
            n_flying: 0,
            used_at: Timestamp::from_micros(0),
        }
    }

    fn learn(&mut self, attempt: &Attempt, now: Timestamp) {
        match (&attempt.outcome, attempt.outcome.blame()) {
            (Outcome::Accepted { .. }, _) => {
                (self.proven, self.good) = (true, true);
                self.breaker.succeeded();
            }
            // Refused without asking says nothing.
            (Outcome::Refused { .. }, None) if attempt.took.is_zero() => self.breaker.probe_unused(now),
            (_, None) => self.breaker.succeeded(),
            (_, Some(Blame::Recipient)) => self.breaker.answered(),
            (_, Some(Blame::RecipientOrSettings)) if self.proven => self.breaker.answered(),
            (outcome, Some(Blame::Provider | Blame::RecipientOrSettings)) => {
                let asked = match outcome {
                    Outcome::Later { after, .. } => *after,
                    _ => None,
                };
                self.good = false;
                self.breaker.failed(now, asked);
            }
        }
    }
}

/// What a lane's provider may be sent.
#[derive(Debug)]
pub(super) enum Gate {
    Provider(Standing),
    Services(Services),
}

impl Gate {
    pub(super) fn new(settings: &DispatchSettings, provider: Provider) -> Self {
        if provider != Provider::WebPush {
            return Self::Provider(Standing::new(settings));
        }
        let bad_max = (settings.parallel_max(provider) / BAD_PART).max(BAD_PLACES_MIN);
        Self::Services(Services { known: HashMap::new(), settings: settings.clone(), bad_max })
    }

    /// How many of `free` places may be claimed for. What is for one of several services is known only then.
    pub(super) fn room(&mut self, free: usize, now: Timestamp) -> usize {
        match self {
            Self::Services(_) => free,
            Self::Provider(standing) => match standing.breaker.allows(now) {
                Allowance::Free => free,
                Allowance::Probe => free.min(1),
                Allowance::Nothing { .. } => 0,
            },
        }
    }

    /// Takes a place at the service of a device. The error says until when there is none.
    pub(super) fn admit(&mut self, device: Option<&Device>, now: Timestamp) -> Result<Option<Service>, Timestamp> {
        let (Self::Services(services), Some(device)) = (self, device) else { return Ok(None) };
        // What is no address of the web is refused without asking anybody.
        let Ok((origin, _)) = Origin::split(&device.address) else { return Ok(None) };
        services.admit(origin.to_string().into(), now).map(Some)
    }

    /// Nothing was sent: not to these services, and not as a probe.
    pub(super) fn give_back(&mut self, admitted: &[Option<Service>], now: Timestamp) {
        match self {
            Self::Provider(standing) => standing.breaker.probe_unused(now),
            Self::Services(services) => {
                for service in admitted.iter().flatten() {
                    if let Some(standing) = services.known.get_mut(service) {
                        standing.n_flying = standing.n_flying.saturating_sub(1);
                        standing.breaker.probe_unused(now);
                    }
                }
            }
        }
    }

    /// Notes what an attempt says.
    pub(super) fn learn(&mut self, attempt: &Attempt, now: Timestamp) {
        let standing = match self {
            Self::Provider(standing) => Some(standing),
            Self::Services(services) => attempt.service.as_ref().and_then(|service| services.known.get_mut(service)),
        };
        if let Some(standing) = standing {
            standing.n_flying = standing.n_flying.saturating_sub(1);
            standing.learn(attempt, now);
        }
    }

    /// Whether the provider counts as out; of several services one that has taken messages, or any while none has.
    pub(super) fn is_out(&self) -> bool {
        match self {
            Self::Provider(standing) => standing.breaker.is_open(),
            Self::Services(services) => {
                let any_proven = services.known.values().any(|standing| standing.proven);
                let mut counted = services.known.values().filter(|standing| standing.proven || !any_proven);
                counted.any(|standing| standing.breaker.is_open())
            }
        }
    }
}

/// The push services of browsers.
#[derive(Debug)]
pub(super) struct Services {
    known: HashMap<Service, Standing>,
    settings: DispatchSettings,
    bad_max: usize,
}

impl Services {
    fn admit(&mut self, service: Service, now: Timestamp) -> Result<Service, Timestamp> {
        if !self.known.contains_key(&service) && !self.has_room_for_another() {
            return Err(now.plus(HOLD));
        }
        let n_bad: usize = self.known.values().filter(|known| !known.good).map(|known| known.n_flying).sum();
        let standing = self.known.entry(service.clone()).or_insert_with(|| Standing::new(&self.settings));
        if !standing.good && n_bad >= self.bad_max {
            return Err(now.plus(HOLD));
        }
        // A probe is over long before its pause would be.
        let probing = standing.breaker.is_probing();
        match standing.breaker.allows(now) {
            Allowance::Free | Allowance::Probe => {
                standing.n_flying += 1;
                standing.used_at = now;
                Ok(service)
            }
            Allowance::Nothing { .. } if probing => Err(now.plus(HOLD)),
            Allowance::Nothing { until } => Err(until),
        }
    }

    /// Whether another service may be remembered; forgets one that nothing is on its way to, rather one that never took
    /// a message.
    fn has_room_for_another(&mut self) -> bool {
        if self.known.len() < SERVICES_MAX {
            return true;
        }
        let idle = self.known.iter().filter(|(_, standing)| standing.n_flying == 0);
        let oldest = idle.min_by_key(|(_, standing)| (standing.proven, standing.used_at));
        let oldest = oldest.map(|(service, _)| service.clone());
        oldest.is_some_and(|service| self.known.remove(&service).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: &str = "https://dead.example";
    const LIVE: &str = "https://live.example";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).plus(Duration::from_secs(seconds))
    }

    fn services() -> Services {
        let settings = DispatchSettings { breaker_failures: 3, push_parallel_max: 16, ..DispatchSettings::default() };
        let Gate::Services(services) = Gate::new(&settings, Provider::WebPush) else { unreachable!() };
        services
    }

    fn take(services: &mut Services, name: &str, seconds: u64) -> Result<(), Timestamp> {
        services.admit(name.into(), at(seconds)).map(drop)
    }

    /// A message that was on its way has arrived, or not.
    fn land(services: &mut Services, name: &str, seconds: u64, arrived: bool) {
        let standing = services.known.get_mut(name).unwrap();
        standing.n_flying -= 1;
        if arrived {
            (standing.proven, standing.good) = (true, true);
            standing.breaker.succeeded();
        } else {
            standing.good = false;
            standing.breaker.failed(at(seconds), None);
        }
    }

    #[test]
    fn a_dead_service_leaves_the_others_their_places_and_its_own_breaker_opens() {
        let mut services = services();
        assert_eq!(take(&mut services, LIVE, 0), Ok(()));
        land(&mut services, LIVE, 0, true);
        for _ in 0..4 {
            assert_eq!(take(&mut services, DEAD, 0), Ok(()));
        }
        assert_eq!(take(&mut services, DEAD, 0), Err(at(2)), "a quarter of the places");
        assert_eq!(take(&mut services, "https://new.example", 0), Err(at(2)), "for all in bad standing together");
        for _ in 0..12 {
            assert_eq!(take(&mut services, LIVE, 0), Ok(()), "who takes messages is not held up");
        }
        for _ in 0..4 {
            land(&mut services, DEAD, 5, false);
        }
        assert_eq!(take(&mut services, DEAD, 5), Err(at(15)), "until the pause is over");
        assert_eq!(take(&mut services, "https://new.example", 5), Ok(()));
        assert_eq!(take(&mut services, DEAD, 15), Ok(()), "a probe");
        assert_eq!(take(&mut services, DEAD, 15), Err(at(17)), "one at a time");
        land(&mut services, DEAD, 15, true);
        assert_eq!(take(&mut services, DEAD, 15), Ok(()));
    }

    #[test]
    fn made_up_services_do_not_push_out_the_real_ones() {
        let mut services = services();
        assert_eq!(take(&mut services, LIVE, 0), Ok(()));
        land(&mut services, LIVE, 0, true);
        for n in 0..1_000 {
            let name = format!("https://{n}.example");
            assert_eq!(take(&mut services, &name, 1), Ok(()));
            land(&mut services, &name, 1, false);
        }
        assert_eq!(services.known.len(), SERVICES_MAX);
        assert!(services.known[LIVE].good);
        let gate = Gate::Services(services);
        assert!(!gate.is_out(), "nobody is woken for services that were never there");
    }

    #[test]
    fn what_was_taken_and_never_left_is_given_back() {
        let mut services = services();
        for _ in 0..3 {
            assert_eq!(take(&mut services, DEAD, 0), Ok(()));
        }
        for _ in 0..3 {
            land(&mut services, DEAD, 0, false);
        }
        assert_eq!(take(&mut services, DEAD, 10), Ok(()), "a probe");
        let mut gate = Gate::Services(services);
        gate.give_back(&[Some(DEAD.into()), None], at(10));
        let Gate::Services(mut services) = gate else { unreachable!() };
        assert_eq!(services.known[DEAD].n_flying, 0);
        assert_eq!(take(&mut services, DEAD, 10), Ok(()), "the next one is the probe");
    }
}
