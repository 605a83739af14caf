"""What flows through the system: records, policies and the places where files live.

Pure values. Nothing here reads a file, a clock or the environment; every other module may import this one.
"""
