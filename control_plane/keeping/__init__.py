"""Keeping: output compressed once its run is over; backups made while serving, restored and verified."""
