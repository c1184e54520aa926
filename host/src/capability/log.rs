//! Log lines of plugins, marked with who wrote them and for which request.

use crate::engine::GuestState;
use crate::engine::bindings::Caller;
use crate::engine::bindings::named_imports::souk::host::log::Host;
use crate::engine::bindings::souk::host::log::Level;
use crate::printable;
use crate::work::rehearsal::LogLine;

/// Of one line; what comes after them is left out.
const FIELDS_MAX: usize = 32;

impl Host for GuestState {
    fn write(&mut self, caller: Caller, level: Level, message: String, mut fields: Vec<(String, String)>) {
        fields.truncate(FIELDS_MAX);
        let bytes = message.len() + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let known = {
            let mut unit = self.unit.lock();
            unit.log_line(bytes).then(|| (unit.request_id.clone(), unit.behalf_of(caller.name())))
        };
        let Some((request, behalf_of)) = known else {
            self.services.metrics.log_line_dropped(caller.name());
            return;
        };
        if let Some(rehearsal) = &mut self.unit.lock().rehearsal {
            rehearsal.log.push(LogLine { plugin: caller.name().to_owned(), level, message, fields });
            return;
        }
        // Line breaks and terminal sequences of a guest must not look like other lines.
        let mut line = printable::line(&message).into_owned();
        for (name, value) in &fields {
            line.push_str(&format!(" {}={}", printable::line(name), printable::line(value)));
        }
        let plugin = caller.name();
        match level {
            Level::Debug => tracing::debug!(target: "plugin", plugin, behalf_of, request, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, behalf_of, request, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, behalf_of, request, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, behalf_of, request, "{line}"),
        }
    }
}
