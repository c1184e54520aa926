//! Log lines: `log::info!("order {number} paid")`, with fields after a
//! semicolon: `log::warn!("declined"; order = number, amount = total)`.

pub use crate::capability::log::*;

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $format:literal $(, $argument:expr)* $(,)? $(; $($key:ident = $value:expr),+ $(,)?)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($format $(, $argument)*),
            &[$($((::std::stringify!($key).to_owned(), ::std::string::ToString::to_string(&$value))),+)?],
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($argument:tt)*) => { $crate::__log!(Debug, $($argument)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($argument:tt)*) => { $crate::__log!(Info, $($argument)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($argument:tt)*) => { $crate::__log!(Warn, $($argument)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($argument:tt)*) => { $crate::__log!(Error, $($argument)*) };
}

pub use crate::{__log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn};
