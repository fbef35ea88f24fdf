"""Mutation testing: does a test fail when a condition, a loop or a sign in the code is wrong?"""
