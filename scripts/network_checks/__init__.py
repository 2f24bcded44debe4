"""Networks that no part of the package was written for, and a judge of what the package makes of them."""
