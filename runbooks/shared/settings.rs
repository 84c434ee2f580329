//! Declaration of settings.

/// Declares the settings of a runbook: each key once, with its documentation, type and default, and the pairs of keys that limit a number.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty = $default:expr,)*
        }
        $(limits {
            $($limit:ident: $unit:ident $side:ident($warn:ident, $crit:ident) $(* $scale:literal)?,)*
        })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        $(
            #[allow(clippy::cast_precision_loss, clippy::cast_lossless, trivial_numeric_casts, reason = "limits are far below 2^52")]
            impl $name {
                $(
                    #[doc = concat!("Limits of `", stringify!($limit), "`: `", stringify!($warn), "` and `", stringify!($crit), "`.")]
                    pub(crate) fn $limit(&self) -> opsctl_core::model::Limits {
                        opsctl_core::model::Limits::$side(
                            opsctl_core::model::Unit::$unit,
                            self.$warn as f64 $(* $scale)?,
                            self.$crit as f64 $(* $scale)?,
                        )
                    }
                )*
            }
        )?
    };
}

pub(crate) use settings;
