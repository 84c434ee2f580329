//! Promise 4: a login is given only to the proven peer it is for.
