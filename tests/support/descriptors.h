/* How many descriptors this process has open: what a test began with must be what it ends with. */
#ifndef SLUICE_TESTS_DESCRIPTORS_H
#define SLUICE_TESTS_DESCRIPTORS_H

int descriptors_open(void);

#endif
