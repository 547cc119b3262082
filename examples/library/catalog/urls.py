from django.urls import path

from . import views

app_name = "catalog"

urlpatterns = [
    path("", views.IndexView.as_view(), name="index"),
    path("books/", views.BookListView.as_view(), name="book-list"),
    path("books/<int:pk>/", views.BookDetailView.as_view(), name="book-detail"),
    path("books/<int:pk>/cover/", views.CoverView.as_view(), name="book-cover"),
    path("authors/", views.AuthorListView.as_view(), name="author-list"),
    path("authors/<int:pk>/", views.AuthorDetailView.as_view(), name="author-detail"),
    path("loans/", views.AllLoansView.as_view(), name="all-loans"),
    path("loans/mine/", views.MyLoansView.as_view(), name="my-loans"),
]
