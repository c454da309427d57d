/* The intrusive list: order, removal while walking, moving all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base.h"
#include "lib/list.h"

struct item {
	struct list node;
	int number;
};

static struct item items[5];

static void fill(struct list *head)
{
	list_init(head);
	for (size_t i = 0; i < ARRAY_LENGTH(items); i++) {
		items[i].number = (int)i;
		list_init(&items[i].node);
		list_push_back(head, &items[i].node);
	}
}

/* The numbers in order, as one decimal number. */
static int order_of(struct list *head)
{
	int sum = 0;
	LIST_EACH (head, node, following)
		sum = sum * 10 + CONTAINER_OF(node, struct item, node)->number;
	return sum;
}

static void keeps_the_order(void **state)
{
	struct list head;
	(void)state;
	fill(&head);
	assert_int_equal(order_of(&head), 1234);
	list_remove(&items[4].node);
	list_push_front(&head, &items[4].node);
	assert_int_equal(order_of(&head), 40123);
	assert_ptr_equal(list_pop_front(&head), &items[4].node);
	assert_false(list_linked(&items[4].node));
}

static void removing_twice_is_harmless(void **state)
{
	struct list head;
	(void)state;
	fill(&head);
	list_remove(&items[2].node);
	list_remove(&items[2].node);
	assert_int_equal(order_of(&head), 134);
}

static void removes_while_walking(void **state)
{
	struct list head;
	(void)state;
	fill(&head);
	LIST_EACH (&head, node, following) {
		if (CONTAINER_OF(node, struct item, node)->number % 2 == 0)
			list_remove(node);
	}
	assert_int_equal(order_of(&head), 13);
}

static void moves_all(void **state)
{
	struct list head, other;
	(void)state;
	fill(&head);
	list_init(&other);
	list_move_all(&other, &head);
	assert_true(list_empty(&head));
	assert_int_equal(order_of(&other), 1234);
	list_move_all(&other, &head);
	assert_int_equal(order_of(&other), 1234);
	list_push_back(&head, list_pop_front(&other));
	list_move_all(&other, &head);
	assert_int_equal(order_of(&other), 12340);
}

static void pop_of_an_empty_list(void **state)
{
	struct list head;
	(void)state;
	list_init(&head);
	assert_null(list_pop_front(&head));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_order),       cmocka_unit_test(removing_twice_is_harmless),
		cmocka_unit_test(removes_while_walking), cmocka_unit_test(moves_all),
		cmocka_unit_test(pop_of_an_empty_list),
	};
	return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
