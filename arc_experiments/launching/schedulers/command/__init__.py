"""Any scheduler by a command and a template of the user's: HTCondor, PBS, SkyPilot and so on."""
