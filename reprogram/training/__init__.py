"""How a program is found: one loop; strategies differ in how they estimate a gradient or a step."""
