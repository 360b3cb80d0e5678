"""The spine's tests draw the same examples each time, and a busy machine is no failure."""

import os

from hypothesis import Phase, settings

settings.register_profile("spine", deadline=None, derandomize=True)
settings.register_profile(
    "first", settings.get_profile("spine"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("DLAUDIT_HYPOTHESIS", "spine"))
