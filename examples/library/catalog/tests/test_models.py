from datetime import date, timedelta

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.test import TestCase
from django.utils import timezone

from catalog.models import Author, Book, BookInstance, Genre

Status = BookInstance.Status


class FirstBooksTests(TestCase):
    """What the data migration put on the shelves."""

    def test_books_have_everything_a_page_shows(self):
        self.assertEqual(Book.objects.count(), 14)
        self.assertEqual(Author.objects.count(), 10)
        for book in Book.objects.all():
            with self.subTest(book=book):
                self.assertTrue(book.published and book.language and book.summary)
                self.assertTrue(book.genres.exists() and book.copies.exists())
                book.full_clean()

    def test_names_keep_their_accents(self):
        book = Book.objects.get(title="Jane Eyre")
        self.assertEqual(str(book.author), "Charlotte Brontë")
        self.assertEqual(book.author.lifespan, "1816–1855")


class AuthorTests(TestCase):
    def test_one_name_is_enough(self):
        self.assertEqual(str(Author(last_name="Homer")), "Homer")

    def test_lifespan(self):
        born, died = date(1900, 1, 2), date(1980, 3, 4)
        self.assertEqual(Author().lifespan, "")
        self.assertEqual(Author(date_of_birth=born).lifespan, "1900–")
        self.assertEqual(Author(date_of_death=died).lifespan, "?–1980")

    def test_an_author_with_books_stays(self):
        with self.assertRaises(ProtectedError):
            Author.objects.get(last_name="Austen").delete()


class GenreTests(TestCase):
    def test_names_differ_in_more_than_case(self):
        with self.assertRaisesMessage(ValidationError, "already a genre"):
            Genre(name="gothic").full_clean()


class CopyTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.reader = get_user_model().objects.create_user("reader")
        cls.book = Book.objects.get(title="Dracula")

    def lend(self, **values):
        values = {"borrower": self.reader, "due_back": timezone.localdate()} | values
        return BookInstance.objects.create(book=self.book, status=Status.ON_LOAN, **values)

    def test_a_loan_needs_a_borrower_and_a_date(self):
        for missing in ("borrower", "due_back"):
            with self.subTest(missing), self.assertRaises(IntegrityError), transaction.atomic():
                self.lend(**{missing: None})

    def test_a_copy_on_the_shelf_has_no_borrower(self):
        copy = self.lend()
        copy.status = Status.AVAILABLE
        with self.assertRaisesMessage(ValidationError, "has neither"):
            copy.full_clean()

    def test_overdue_from_the_day_after(self):
        today = timezone.localdate()
        self.assertFalse(self.lend(due_back=today).is_overdue)
        self.assertTrue(self.lend(due_back=today - timedelta(days=1)).is_overdue)
        self.assertFalse(BookInstance(book=self.book).is_overdue)

    def test_a_borrower_stays(self):
        self.lend()
        with self.assertRaises(ProtectedError):
            self.reader.delete()
