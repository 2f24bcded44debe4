"""Native engine: networks trained by their kept weights, by compiled loops."""
