/* How many descriptors this process has open: what a test began with must be what it ends with. */
#ifndef SLUICE_TESTS_DESCRIPTORS_H
#define SLUICE_TESTS_DESCRIPTORS_H

int descriptors_open(void);
/* Until it has no more than so many: a server's threads close their ends in their own time. Aborts after some seconds. */
void descriptors_await(int most);

#endif
