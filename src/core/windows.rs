//! The probes that ask nobody: who their parts are, when they are looked at, and which failed looks are
//! our own doing.

use super::brain::Brain;
use super::event::Effect;
use super::window::{Sample, Window};
use crate::model::{Health, MonoTime, Now};

impl Brain {
    /// Fits the windows to the settings. One over the same probes as before goes on counting.
    pub(super) fn lay_out_windows(&mut self) {
        self.feeds = vec![Vec::new(); self.detectors.len()];
        self.windows.clear();
        for place in 0..self.detectors.len() {
            let detector = &mut self.detectors[place];
            let Some(settings) = detector.settings.window.clone() else {
                detector.window = None;
                continue;
            };
            self.windows.push(place);
            for part in settings.of.iter().filter_map(|part| self.index.get(part)) {
                self.feeds[*part].push(place);
            }
            detector.window.get_or_insert_with(|| Box::new(Window::new(*settings)));
        }
    }

    /// Hands a look of a part to its windows. `true` where what it leads to has to be thought about.
    pub(super) fn feed_windows(&mut self, now: Now, index: usize, started: MonoTime, sample: Option<Sample>) -> bool {
        if self.settings.anchors.contains(&self.detectors[index].settings.name) {
            self.settle_windows(now);
        }
        let mut changed = false;
        for feed in 0..self.feeds[index].len() {
            let place = self.feeds[index][feed];
            // An anchor that did not answer just before it, or does not after it, says that it was us.
            let known = match sample {
                Some(Sample::Failed) => self.is_sound(started).or_else(|| self.are_anchors_lost().then_some(false)),
                _ => Some(true),
            };
            let interval = self.detectors[place].settings.interval.get();
            let Some(window) = &mut self.detectors[place].window else { continue };
            match (sample, known) {
                (Some(sample), Some(true)) => window.take(started, sample),
                (Some(_), None) => window.doubt(started),
                _ => {}
            }
            if window.is_due(started, interval) {
                changed |= self.look_at_window(now, place, started);
            }
        }
        changed
    }

    /// Were we connected when a look began? `None` where nobody knows yet.
    fn is_sound(&self, began: MonoTime) -> Option<bool> {
        let settings = &self.settings;
        if settings.anchors.is_empty() {
            let heard = settings.witnesses.iter().any(|witness| self.heard_since(&witness.name, began));
            return (heard || settings.witnesses.is_empty()).then_some(true);
        }
        let (mut answered, mut open) = (0, 0);
        for anchor in settings.anchors.iter().filter_map(|anchor| self.index.get(anchor)) {
            let anchor = &self.detectors[*anchor];
            match anchor.latest.as_ref().filter(|latest| latest.started >= began) {
                Some(latest) => answered += u32::from(anchor.last_up == Some(latest.started)),
                None => open += 1,
            }
        }
        let needed = settings.anchors_at_least;
        if answered >= needed {
            Some(true)
        } else if answered + open < needed {
            Some(false)
        } else {
            None
        }
    }

    /// Did too few anchors answer when they were asked last?
    fn are_anchors_lost(&self) -> bool {
        let anchors = self.settings.anchors.iter().filter_map(|anchor| self.index.get(anchor));
        let lost = anchors.filter(|anchor| {
            let anchor = &self.detectors[**anchor];
            anchor.latest.as_ref().is_some_and(|latest| anchor.last_up != Some(latest.started))
        });
        let left = self.settings.anchors.len().saturating_sub(lost.count());
        left < self.settings.anchors_at_least as usize
    }

    fn settle_windows(&mut self, now: Now) {
        for &place in &self.windows {
            let max_age = self.detectors[place].settings.max_age.get();
            let taken = self.detectors[place].window.take_if(|window| window.doubts());
            let Some(mut window) = taken else { continue };
            window.settle(now.mono.minus(max_age), |began| self.is_sound(began));
            self.detectors[place].window = Some(window);
        }
    }

    fn look_at_window(&mut self, now: Now, place: usize, started: MonoTime) -> bool {
        self.settle_windows(now);
        let Some(mut window) = self.detectors[place].window.take() else { return false };
        let blind = window.parts().iter().find_map(|part| {
            let detector = self.index.get(part).map(|part| &self.detectors[*part])?;
            match detector.health() {
                None => Some(format!("{part} has not been seen yet")),
                Some(Health::Unknown) => Some(format!("{part} is unknown")),
                Some(_) if !detector.is_fresh(now.mono) => Some(format!("{part} was not seen for too long")),
                Some(_) => None,
            }
        });
        let observation = window.look(blind, &self.detectors[place].settings);
        self.detectors[place].window = Some(window);
        let observation = observation.meaning(&self.detectors[place].settings.causes);
        self.seen(place, started, observation)
    }

    /// What has to be done. Nobody can ask a window, or ask it faster: its parts are asked instead.
    pub(super) fn told(&mut self) -> Vec<Effect> {
        let effects = std::mem::take(&mut self.effects);
        if self.windows.is_empty() {
            return effects;
        }
        let mut told = Vec::with_capacity(effects.len());
        for effect in effects {
            let name = match &effect {
                Effect::ProbeNow(probe) | Effect::Pace { probe, .. } => Some(probe),
                _ => None,
            };
            let place = name.and_then(|name| self.index.get(name)).copied();
            match place.and_then(|place| self.detectors[place].window.as_mut()) {
                None => told.push(effect),
                Some(window) if matches!(effect, Effect::ProbeNow(_)) => {
                    window.ask();
                    told.extend(window.parts().iter().cloned().map(Effect::ProbeNow));
                }
                Some(_) => {}
            }
        }
        told
    }
}
